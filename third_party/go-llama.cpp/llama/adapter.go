package llama

/*
#include <stdlib.h>
#include "bridge.h"
*/
import "C"

import (
	"fmt"
	"math"
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
// takes the new scale. Several adapters add up.
func (c *Context) SetAdapter(a *Adapter, scale float32) error {
	op := fmt.Sprintf("set adapter %q", a.path)
	switch {
	case c.closed:
		return errorf(op, "the context is closed")
	case a.m != c.m:
		return errorf(op, "it was loaded for another model: %q, want %q", a.m.path, c.m.path)
	}
	if x := float64(scale); math.IsNaN(x) || math.IsInf(x, 0) {
		return errorf(op, "scale %v, want a number", scale)
	}
	before, again := c.adapters[a]
	if !again {
		if err := a.retain(op); err != nil {
			return err
		}
	}
	c.adapters[a] = scale
	err := c.useAdapters(op)
	switch {
	case err != nil && again:
		c.adapters[a] = before
	case err != nil:
		delete(c.adapters, a)
		a.release()
	}
	return err
}

// ClearAdapters takes all adapters off the context.
func (c *Context) ClearAdapters() {
	if c.closed || len(c.adapters) == 0 {
		return
	}
	for a := range c.adapters {
		a.release()
	}
	clear(c.adapters)
	_ = c.useAdapters("clear adapters") // none at all cannot fail
}

// useAdapters hands llama.cpp all adapters at once. It builds a new graph for them.
func (c *Context) useAdapters(op string) error {
	adapters, scales := make([]*C.llama_adapter_lora, 0, len(c.adapters)), make([]C.float, 0, len(c.adapters))
	for a, scale := range c.adapters {
		adapters, scales = append(adapters, a.p), append(scales, C.float(scale))
	}
	var e C.fl_error
	if code := int(C.fl_set_adapters(c.p, unsafe.SliceData(adapters), C.size_t(len(adapters)), unsafe.SliceData(scales), &e)); code != 0 {
		return nativeError(op, code, &e, fmt.Sprintf("failed with code %d", code))
	}
	return nil
}
