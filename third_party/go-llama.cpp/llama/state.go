package llama

/*
#include <stdlib.h>
#include "bridge.h"
*/
import "C"

import (
	"fmt"
	"os"
	"unsafe"
)

// State returns a copy of everything the context remembers, to be given to SetState of a context made with the same
// model and parameters.
func (c *Context) State() ([]byte, error) {
	const op = "get state"
	var e C.fl_error
	n := int(C.fl_state_get(c.p, nil, 0, &e))
	if n == 0 {
		return nil, nativeError(op, 0, &e, "llama.cpp gave no reason")
	}
	buf := make([]byte, n)
	n = int(C.fl_state_get(c.p, (*C.uint8_t)(&buf[0]), C.size_t(n), &e))
	if n == 0 {
		return nil, nativeError(op, 0, &e, "llama.cpp gave no reason")
	}
	return buf[:n], nil
}

// SetState restores what State returned. On an error the context's memory is empty.
func (c *Context) SetState(state []byte) error {
	const op = "set state"
	c.output = nil
	if len(state) == 0 {
		c.ClearMemory()
		return errorf(op, "no bytes")
	}
	var e C.fl_error
	if n := C.fl_state_set(c.p, (*C.uint8_t)(&state[0]), C.size_t(len(state)), &e); int(n) != len(state) {
		c.ClearMemory()
		return nativeError(op, 0, &e, fmt.Sprintf("%d of %d bytes were understood", int(n), len(state)))
	}
	return nil
}

// SaveState writes State and the tokens it stands for into a session file of llama.cpp. Nothing is left at path when it
// fails.
func (c *Context) SaveState(path string, tokens []int32) error {
	op := fmt.Sprintf("save state %q", path)
	temp := path + ".part"
	cpath := C.CString(temp)
	defer C.free(unsafe.Pointer(cpath))
	var e C.fl_error
	if code := int(C.fl_state_save(c.p, cpath, (*C.int32_t)(unsafe.SliceData(tokens)), C.size_t(len(tokens)), &e)); code != 0 {
		os.Remove(temp)
		return nativeError(op, code, &e, "llama.cpp gave no reason")
	}
	if err := os.Rename(temp, path); err != nil {
		os.Remove(temp)
		return fmt.Errorf("llama: save state: %w", err)
	}
	return nil
}

// LoadState restores a file of SaveState and returns its tokens. On an error the context's memory is empty.
func (c *Context) LoadState(path string) ([]int32, error) {
	op := fmt.Sprintf("load state %q", path)
	if _, err := os.Stat(path); err != nil {
		return nil, fmt.Errorf("llama: load state: %w", err)
	}
	c.output = nil
	tokens := make([]int32, c.NCtx()+1)
	cpath := C.CString(path)
	defer C.free(unsafe.Pointer(cpath))
	var n C.size_t
	var e C.fl_error
	if code := int(C.fl_state_load(c.p, cpath, (*C.int32_t)(&tokens[0]), C.size_t(len(tokens)), &n, &e)); code != 0 {
		c.ClearMemory()
		return nil, nativeError(op, code, &e, "not a session file for this model and context")
	}
	return tokens[:n:n], nil
}
