// Package model opens base models: the header of a GGUF, read and checked once, as a handle that is passed on.
//
//	base, err := model.Open("base.gguf")
//	defer base.Close()
//	id, err := base.Identity() // which model it is, whatever its quantization
//
// It needs no native code; package model/native loads what was opened in llama.cpp.
package model

import (
	"encoding/binary"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"sync"

	"finetune/gguf"
	"finetune/internal/hint"
)

// Base is the file of a base model, open: its metadata, tensors and their data by the methods of gguf.File. Goroutines may
// share it.
type Base struct {
	*gguf.File

	once     sync.Once
	identity Identity
	err      error
}

// Open opens a base model, in one file or split. An adapter, an importance matrix, a file that llama.cpp would not load for
// its byte order, one with a tokenizer and no weights, and a header that llama.cpp would not survive are errors, the latter
// with the key or tensor, what is wanted and what it has; those of gguf.Open pass through.
func Open(path string) (*Base, error) {
	b, err := OpenParts(path)
	if err != nil {
		return nil, err
	}
	if err := checkWhole(b.File); err != nil {
		b.Close()
		return nil, err
	}
	return b, nil
}

// OpenParts does what Open does, for callers that work tensor by tensor: the file need not hold a whole model.
func OpenParts(path string) (*Base, error) {
	f, err := gguf.Open(path)
	if err != nil {
		return nil, err
	}
	if err := refuse(f); err != nil {
		f.Close()
		return nil, err
	}
	return &Base{File: f}, nil
}

// refuse returns what is wrong with a GGUF as a base model.
func refuse(f *gguf.File) error {
	kind, _ := f.String("general.type")
	switch {
	case kind == "adapter":
		return hint.With(fmt.Errorf("model %q: holds an adapter, want a base model", f.Path()),
			"the base goes to --model; an adapter goes to --adapter, or to --from of convert")
	case kind == "imatrix":
		return hint.With(fmt.Errorf("model %q: holds an importance matrix, want a base model", f.Path()),
			"the base goes to --model, an importance matrix to --imatrix")
	case f.ByteOrder() != binary.LittleEndian:
		return fmt.Errorf("model %q: is big endian, which llama.cpp does not load", f.Path())
	}
	return checkHeader(f)
}

// Bytes returns the size of all tensors' data, without padding.
func (b *Base) Bytes() (n int64) {
	for _, t := range b.Tensors() {
		n += t.Bytes()
	}
	return n
}

// Used returns the tensors that llama.cpp's graph reads. The last layers of some models (Gemma 4, Gemma 3n) take K and V from
// an earlier one, and files may hold the matrices for them all the same.
func (b *Base) Used() []gguf.Tensor {
	layers, _ := b.Int(b.Architecture() + ".block_count")
	shared, _ := b.Int(b.Architecture() + ".attention.shared_kv_layers")
	return slices.DeleteFunc(slices.Clone(b.Tensors()), func(t gguf.Tensor) bool {
		block := Block(t.Name)
		return shared > 0 && block >= 0 && int64(block) >= int64(layers)-int64(shared) && isKV.MatchString(t.Name)
	})
}

// ScaleApart returns the name of the tensor whose one number llama.cpp multiplies the product with a weight by, and "" for none.
// Models in nvfp4 have them. An adapter's product is not multiplied by it.
func (b *Base) ScaleApart(weight string) string {
	scale := strings.TrimSuffix(weight, ".weight") + ".scale"
	if _, ok := b.Tensor(scale); !ok {
		return ""
	}
	return scale
}

// isKV matches the tensors of a block that make K and V.
var isKV = regexp.MustCompile(`\.attn_(k|v|k_norm|v_norm)\.(weight|bias)$`)

// Identity says which model it is. It is worked out once; the errors are those of reading tensors.
func (b *Base) Identity() (Identity, error) {
	b.once.Do(func() { b.identity, b.err = identify(b.File) })
	return b.identity, b.err
}

// VocabBytes returns what llama.cpp keeps of the vocabulary in memory, estimated from the header: of a token its text three
// times over, in an array and in the tables by text and by piece, and of a merge rule of BPE a node of a tree. The sizes are
// those of the containers of C++ on a 64-bit system.
func (b *Base) VocabBytes() int64 {
	const (
		token = 40 + 32 + 64 + 8 // its data, its piece, an entry of the table by text and that entry's place
		merge = 112              // a node with two texts and a rank
		short = 15               // bytes of a text that lie in its object; a longer one has a block of its own
		block = 16               // that such a block takes at least beside its bytes
	)
	var n int64
	tokens, _ := b.Strings("tokenizer.ggml.tokens")
	for _, s := range tokens {
		n += token
		if len(s) > short {
			n += 3 * int64(len(s)+block)
		}
	}
	merges, _ := b.Strings("tokenizer.ggml.merges")
	return n + merge*int64(len(merges))
}
