package ggml

/*
#include "abi.h"
#include "guard.h"
*/
import "C"

import (
	"errors"
	"fmt"
	"slices"
	"strings"
)

// ErrNoMemory is what an error wraps where a backend has no memory for what is asked: for tensors, for the nodes of a graph, or for
// what it takes by itself while it computes.
var ErrNoMemory = errors.New("no memory")

// What a backend throws, and where it aborts, is an error of the calls of this package. What is told of an abort of CPU threads is
// told to who was told before.
func init() { C.ft_install() }

// failure is the error of what failed on backends; nil where nothing did.
func failure(e *C.ft_error, what string, on ...*Backend) error {
	var devices []string
	for _, b := range on {
		if name := b.Device().Name(); !slices.Contains(devices, name) {
			devices = append(devices, name)
		}
	}
	return taken(e, strings.Join(devices, ", ")+": "+what)
}

// caught is the error of what was done with a tensor; nil where nothing was caught.
func caught(e *C.ft_error, doing string, t Tensor) error {
	if e == nil {
		return nil
	}
	doing += fmt.Sprintf(" %q of %d bytes", t.Name(), t.Bytes())
	if d := t.Device(); !d.IsNil() {
		doing += " on device " + d.Name()
	}
	return taken(e, doing)
}

// taken makes an error of what a call returned, and frees that.
func taken(e *C.ft_error, what string) error {
	if e == nil {
		return nil
	}
	defer C.ft_free_error(e)
	reason := C.GoString(&e.text[0])
	switch {
	case bool(e.memory) && reason == "":
		return fmt.Errorf("ggml: %s: %w", what, ErrNoMemory)
	case bool(e.memory):
		return fmt.Errorf("ggml: %s: %w: %s", what, ErrNoMemory, reason)
	case reason == "":
		reason = "the backend gives no reason"
	}
	return fmt.Errorf("ggml: %s: %s", what, reason)
}
