package llama

/*
#include <stdlib.h>
#include "bridge.h"
*/
import "C"

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"regexp"
	"runtime/cgo"
	"sync"
	"unsafe"

	"github.com/go-skynet/go-llama.cpp/ggml"
)

// ModelParams says how to load a model (struct llama_model_params). The zero value: everything in ordinary memory on the
// CPU, mapped from the file.
type ModelParams struct {
	// GPULayers is how many layers to keep in the memory of devices, if the build and the machine have any: the last ones, of
	// which the output counts as one. AllLayers: all; 0: use no device, not even for single operations.
	GPULayers    int
	Devices      []ggml.Device // the devices to use when GPULayers is not 0; nil: all GPUs
	MainGPU      int           // the device for small tensors when GPULayers is not 0
	TensorSplit  []float32     // proportions of the layers for each device; nil: by free memory
	NoMmap       bool          // read the file instead of mapping it
	Mlock        bool          // keep the model from being swapped out
	VocabOnly    bool          // vocabulary and metadata without tensors; such a model has no Context
	CheckTensors bool          // look for NaN and invalid blocks while loading

	// RepackWeights lets the CPU backend keep quantized weights in a layout of its own, which is faster to multiply with
	// but cannot be read back. Off, a weight's memory is the file's.
	RepackWeights bool

	// Progress is told the part done, 0 to 1, and stops the load by returning false. It runs on the loading goroutine.
	Progress func(done float32) bool
}

// AllLayers is for ModelParams.GPULayers.
const AllLayers = -1

// Model is a loaded GGUF model (struct llama_model). It is read-only and may be shared by goroutines.
type Model struct {
	closer
	p         *C.llama_model
	path      string
	vocabOnly bool
	vocab     *Vocab

	mu    sync.Mutex
	users int // open contexts and adapters

	findMappings sync.Once
	mappings     []span // of files into memory, see DropWeights
}

// LoadModel loads the GGUF file at path, all parts of it when it is named -00001-of-0000N. The caller closes the Model. A
// file that cannot be opened gives the *fs.PathError, wrapped; anything else llama.cpp does not accept an *Error.
func LoadModel(path string, p ModelParams) (*Model, error) {
	if err := Check(); err != nil {
		return nil, err
	}
	op := fmt.Sprintf("load model %q", path)
	if err := checkHeader(op, path, !p.VocabOnly); err != nil {
		return nil, err
	}
	params, free := p.native()
	defer free()
	var progress cgo.Handle
	if p.Progress != nil {
		progress = cgo.NewHandle(p.Progress)
		defer progress.Delete()
	}
	cpath := C.CString(path)
	defer C.free(unsafe.Pointer(cpath))
	var e C.fl_error
	ptr := C.fl_load_model(cpath, params, C.uintptr_t(progress), &e)
	if ptr == nil {
		return nil, nativeError(op, 0, &e, "stopped by the progress callback")
	}
	m := &Model{closer: watch(fmt.Sprintf("model %q", path)), p: ptr, path: path, vocabOnly: p.VocabOnly}
	m.vocab = newVocab(m)
	return m, nil
}

func (p ModelParams) native() (params C.struct_llama_model_params, free func()) {
	params = C.llama_model_default_params()
	params.n_gpu_layers = C.int32_t(p.GPULayers)
	params.main_gpu = C.int32_t(p.MainGPU)
	params.vocab_only = C.bool(p.VocabOnly)
	params.load_mode = p.loadMode()
	params.check_tensors = C.bool(p.CheckTensors)
	params.use_extra_bufts = C.bool(p.RepackWeights)
	switch {
	case p.GPULayers == 0:
		params.devices = &C.fl_no_devices[0]
		params.main_gpu = 0
	case len(p.Devices) > 0:
		params.devices = (*C.ggml_backend_dev_t)(C.calloc(C.size_t(len(p.Devices)+1), C.size_t(unsafe.Sizeof(*params.devices)))) // the last is NULL
		for i, d := range p.Devices {
			unsafe.Slice(params.devices, len(p.Devices))[i] = C.ggml_backend_dev_t(d.Pointer())
		}
	}
	if len(p.TensorSplit) > 0 {
		n := int(C.llama_max_devices())
		split := (*C.float)(C.calloc(C.size_t(n), C.sizeof_float))
		copy(unsafe.Slice((*float32)(split), n), p.TensorSplit)
		params.tensor_split = split
	}
	return params, func() {
		C.free(unsafe.Pointer(params.tensor_split))
		if p.GPULayers != 0 {
			C.free(unsafe.Pointer(params.devices))
		}
	}
}

// loadMode is how the file comes into memory. Left to llama.cpp, direct I/O would keep weights from being mapped on some systems.
func (p ModelParams) loadMode() C.enum_llama_load_mode {
	switch {
	case p.NoMmap && p.Mlock:
		return C.LLAMA_LOAD_MODE_MLOCK
	case p.NoMmap:
		return C.LLAMA_LOAD_MODE_NONE
	case p.Mlock:
		return C.LLAMA_LOAD_MODE_MMAP_MLOCK
	}
	return C.LLAMA_LOAD_MODE_MMAP
}

// splitPart matches the name of one file of several. The first of them may hold the metadata alone.
var splitPart = regexp.MustCompile(`-\d{5}-of-\d{5}\.gguf$`)

// checkHeader tells a missing file, a file of another kind and one without tensors from a damaged GGUF, which llama.cpp
// does not. The header is the magic, the version (uint32), the number of tensors (uint64).
func checkHeader(op, path string, wantTensors bool) error {
	f, err := os.Open(path)
	if err != nil {
		return fmt.Errorf("llama: load: %w", err)
	}
	defer f.Close()
	if st, err := f.Stat(); err != nil {
		return fmt.Errorf("llama: load: %w", err)
	} else if st.IsDir() {
		return errorf(op, "it is a folder")
	}
	var head [16]byte
	n, err := io.ReadFull(f, head[:])
	switch {
	case err != nil && !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF):
		return fmt.Errorf("llama: load: %w", err)
	case n < 4:
		return errorf(op, "not a GGUF file: too short")
	case string(head[:4]) != "GGUF":
		return errorf(op, "not a GGUF file: it starts with %q, want %q", head[:4], "GGUF")
	case n == len(head) && wantTensors && binary.LittleEndian.Uint64(head[8:]) == 0 && !splitPart.MatchString(path):
		return errorf(op, "it holds metadata or a vocabulary only, no weights")
	}
	return nil
}

//export flGoProgress
func flGoProgress(done C.float, handle C.uintptr_t) C.bool {
	f := cgo.Handle(handle).Value().(func(float32) bool)
	return C.bool(f(float32(done)))
}

// Close frees the model. Its contexts and adapters have to be closed before: with one of them open the model stays and
// the error says so. A second Close does nothing.
func (m *Model) Close() error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.closed {
		return nil
	}
	if m.users > 0 {
		return errorf(fmt.Sprintf("close model %q", m.path), "%d of its contexts and adapters are still open", m.users)
	}
	C.llama_model_free(m.p)
	m.p, m.closed = nil, true
	return nil
}

// retain counts a new user of the model, which must be open.
func (m *Model) retain(op string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.closed {
		return errorf(op, "the model is closed")
	}
	m.users++
	return nil
}

func (m *Model) release() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.users--
}

// Path returns the path the model was loaded from.
func (m *Model) Path() string { return m.path }

// Vocab returns the model's vocabulary. It lives as long as the model.
func (m *Model) Vocab() *Vocab { return m.vocab }

// Arch returns the metadata value general.architecture: "llama", "qwen2".
func (m *Model) Arch() string { s, _ := m.Meta("general.architecture"); return s }

// Desc returns llama.cpp's description of the model: architecture, size class, type of most weights.
func (m *Model) Desc() string {
	s, _ := readString(func(buf *C.char, size C.size_t) C.int32_t { return C.llama_model_desc(m.p, buf, size) })
	return s
}

// NParams returns the number of weights.
func (m *Model) NParams() uint64 { return uint64(C.llama_model_n_params(m.p)) }

// Bytes returns the size of all tensors in bytes.
func (m *Model) Bytes() uint64 { return uint64(C.llama_model_size(m.p)) }

// NCtxTrain returns the context length the model was trained with, in tokens; 0 for a model loaded with VocabOnly, as
// are the other dimensions.
func (m *Model) NCtxTrain() int { return int(C.llama_model_n_ctx_train(m.p)) }

// NEmbd returns the width of the residual stream.
func (m *Model) NEmbd() int { return int(C.llama_model_n_embd(m.p)) }

// NLayer returns the number of blocks.
func (m *Model) NLayer() int { return int(C.llama_model_n_layer(m.p)) }

// NHead returns the number of query heads of the first layer.
func (m *Model) NHead() int { return m.ifLoaded(func() C.int32_t { return C.llama_model_n_head(m.p) }) }

// NHeadKV returns the number of key and value heads of the first layer.
func (m *Model) NHeadKV() int {
	return m.ifLoaded(func() C.int32_t { return C.llama_model_n_head_kv(m.p) })
}

// ifLoaded guards what llama.cpp computes from layers, and asserts on when there are none.
func (m *Model) ifLoaded(f func() C.int32_t) int {
	if m.vocabOnly || m.NLayer() == 0 {
		return 0
	}
	return int(f())
}

// NSWA returns the length of the sliding attention window in tokens, 0 if the model has none.
func (m *Model) NSWA() int { return int(C.llama_model_n_swa(m.p)) }

// HasEncoder reports whether the model has an encoder, HasDecoder whether it has a decoder.
func (m *Model) HasEncoder() bool { return bool(C.llama_model_has_encoder(m.p)) }
func (m *Model) HasDecoder() bool { return bool(C.llama_model_has_decoder(m.p)) }

// IsRecurrent reports whether the model keeps a state instead of keys and values (Mamba, RWKV); IsHybrid whether some of
// its layers do; IsDiffusion whether it does not predict left to right.
func (m *Model) IsRecurrent() bool { return bool(C.llama_model_is_recurrent(m.p)) }
func (m *Model) IsHybrid() bool    { return bool(C.llama_model_is_hybrid(m.p)) }
func (m *Model) IsDiffusion() bool { return bool(C.llama_model_is_diffusion(m.p)) }

// Meta returns the metadata value of key as text. Arrays are not available here.
func (m *Model) Meta(key string) (string, bool) {
	k := C.CString(key)
	defer C.free(unsafe.Pointer(k))
	return readString(func(buf *C.char, size C.size_t) C.int32_t { return C.llama_model_meta_val_str(m.p, k, buf, size) })
}

// MetaAll returns every metadata value as text, arrays left out.
func (m *Model) MetaAll() map[string]string {
	n := int(C.llama_model_meta_count(m.p))
	all := make(map[string]string, n)
	for i := range n {
		key, ok := readString(func(buf *C.char, size C.size_t) C.int32_t {
			return C.llama_model_meta_key_by_index(m.p, C.int32_t(i), buf, size)
		})
		if !ok {
			continue
		}
		all[key], _ = readString(func(buf *C.char, size C.size_t) C.int32_t {
			return C.llama_model_meta_val_str_by_index(m.p, C.int32_t(i), buf, size)
		})
	}
	return all
}

// ChatTemplate returns the model's chat template (Jinja), the default one for the name "".
func (m *Model) ChatTemplate(name string) (string, bool) {
	var cname *C.char
	if name != "" {
		cname = C.CString(name)
		defer C.free(unsafe.Pointer(cname))
	}
	t := C.llama_model_chat_template(m.p, cname)
	if t == nil {
		return "", false
	}
	return C.GoString(t), true
}

// readString reads a text of unknown length through llama.cpp's (buffer, size) → length convention, where a longer text
// is cut and its full length returned, and a negative length means that there is none.
func readString(read func(buf *C.char, size C.size_t) C.int32_t) (string, bool) {
	size := 256
	for {
		buf := (*C.char)(C.malloc(C.size_t(size)))
		n := int(read(buf, C.size_t(size)))
		s := ""
		if n >= 0 && n < size {
			s = C.GoStringN(buf, C.int(n))
		}
		C.free(unsafe.Pointer(buf))
		switch {
		case n < 0:
			return "", false
		case n < size:
			return s, true
		}
		size = n + 1
	}
}
