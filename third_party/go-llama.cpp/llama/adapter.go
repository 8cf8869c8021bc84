package llama

/*
#include <stdlib.h>
#include "bridge.h"
*/
import "C"

import (
	"fmt"
	"sync"
	"unsafe"
)

// Adapter is a LoRA adapter loaded for one model (struct llama_adapter_lora). It changes nothing until a context of that
// model sets it, and may be set on several at once.
type Adapter struct {
	closer
	p    *C.llama_adapter_lora
	m    *Model
	path string

	mu    sync.Mutex
	users int // contexts that have it set
}

// MaxAdapters is how many adapters a context can have set at once: its graph has room for so many, over all weights.
const MaxAdapters = C.FL_MAX_ADAPTERS

// LoadAdapter loads the GGUF LoRA file at path for m. The caller closes the Adapter, after the contexts that use it and
// before m. Errors are as LoadModel's; an adapter for another architecture or of other shapes is an *Error.
func LoadAdapter(m *Model, path string) (*Adapter, error) {
	op := fmt.Sprintf("load adapter %q", path)
	if err := checkHeader(op, path, true); err != nil {
		return nil, err
	}
	if m.vocabOnly {
		return nil, errorf(op, "the model %q has a vocabulary only, no weights", m.path)
	}
	if err := m.retain(op); err != nil {
		return nil, err
	}
	cpath := C.CString(path)
	defer C.free(unsafe.Pointer(cpath))
	var e C.fl_error
	p := C.fl_load_adapter(m.p, cpath, &e)
	if p == nil {
		m.release()
		return nil, nativeError(op, 0, &e, "llama.cpp gave no reason")
	}
	return &Adapter{closer: watch(fmt.Sprintf("adapter %q", path)), p: p, m: m, path: path}, nil
}

// Close frees the adapter. While a context has it set, it stays, and the error says so. A second Close does nothing.
func (a *Adapter) Close() error {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.closed {
		return nil
	}
	if a.users > 0 {
		return errorf(fmt.Sprintf("close adapter %q", a.path), "%d contexts still have it set", a.users)
	}
	C.llama_adapter_lora_free(a.p)
	a.p, a.closed = nil, true
	a.m.release()
	return nil
}

// Path returns the path the adapter was loaded from.
func (a *Adapter) Path() string { return a.path }

// Meta returns the adapter file's metadata value of key as text.
func (a *Adapter) Meta(key string) (string, bool) {
	k := C.CString(key)
	defer C.free(unsafe.Pointer(k))
	return readString(func(buf *C.char, size C.size_t) C.int32_t { return C.llama_adapter_meta_val_str(a.p, k, buf, size) })
}

// retain counts a new user of the adapter, which must be open.
func (a *Adapter) retain(op string) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.closed {
		return errorf(op, "the adapter is closed")
	}
	a.users++
	return nil
}

func (a *Adapter) release() {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.users--
}

// SetAdapter adds a to what the context computes, scaled by scale on top of the adapter's own alpha / rank. Set again, it
// takes the new scale. Several adapters add up, MaxAdapters at most.
func (c *Context) SetAdapter(a *Adapter, scale float32) error {
	op := fmt.Sprintf("set adapter %q", a.path)
	switch {
	case c.closed:
		return errorf(op, "the context is closed")
	case a.m != c.m:
		return errorf(op, "it was loaded for another model: %q, want %q", a.m.path, c.m.path)
	}
	_, again := c.adapters[a]
	if !again {
		if len(c.adapters) >= MaxAdapters {
			return errorf(op, "the context has %d adapters already, the most that there is room for", len(c.adapters))
		}
		if err := a.retain(op); err != nil {
			return err
		}
	}
	var e C.fl_error
	if code := int(C.fl_set_adapter(c.p, a.p, C.float(scale), &e)); code != 0 {
		if !again {
			a.release()
		}
		return nativeError(op, code, &e, fmt.Sprintf("failed with code %d", code))
	}
	c.adapters[a] = struct{}{}
	c.stale = true
	return nil
}

// ClearAdapters takes all adapters off the context.
func (c *Context) ClearAdapters() {
	if c.closed || len(c.adapters) == 0 {
		return
	}
	c.stale = true
	C.llama_clear_adapter_lora(c.p)
	for a := range c.adapters {
		a.release()
	}
	clear(c.adapters)
}

// rebuild makes llama.cpp forget the graph of the last Decode. llama.cpp builds a new graph only when the batch has another
// shape or the context another setting, and does not count the adapters among those: a change would go unnoticed, as long as
// the batches stay alike. So one is provoked: the first token of the batch to come is decoded with the embeddings setting
// turned over, stopped before any work is done.
func (c *Context) rebuild(b *cBatch) error {
	if !c.stale || !c.built {
		return nil
	}
	restore, err := c.snapshot()
	if err != nil {
		return err
	}
	output := C.int8_t(1)
	var e C.fl_error
	C.llama_set_embeddings(c.p, C.bool(!c.embeddings))
	code := int(C.fl_stopped_decode(c.trace, c.p, 1, b.tokens, b.pos, b.seq, &output, &e))
	C.llama_set_embeddings(c.p, C.bool(c.embeddings))
	if code == 0 { // nothing on the CPU to stop it at
		n := C.llama_memory_seq_pos_max(c.memory(), *b.seq)
		c.RemoveTokens(int32(*b.seq), int(n), -1)
	}
	c.stale = code != 0 && code != CodeAborted // no graph was built: the decode to come will tell why
	return restore()
}

// snapshot keeps the state of models that cannot forget single tokens, and with it the stopped decode's.
func (c *Context) snapshot() (restore func() error, err error) {
	if !c.m.IsRecurrent() && !c.m.IsHybrid() {
		return func() error { return nil }, nil
	}
	state, err := c.State()
	return func() error {
		c.ClearMemory()
		return c.SetState(state)
	}, err
}
