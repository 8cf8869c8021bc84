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

// failure is the error of what failed on backends.
func failure(e *C.ft_error, what string, on ...*Backend) error {
	var devices []string
	for _, b := range on {
		if name := b.Device().Name(); !slices.Contains(devices, name) {
			devices = append(devices, name)
		}
	}
	what = "ggml: " + strings.Join(devices, ", ") + ": " + what
	switch {
	case !bool(e.memory):
		return fmt.Errorf("%s: %s", what, reason(e))
	case e.text[0] == 0:
		return fmt.Errorf("%s: %w", what, ErrNoMemory)
	}
	return fmt.Errorf("%s: %w: %s", what, ErrNoMemory, reason(e))
}

// caught is the error of a call that returns nothing: nil unless something was thrown. The tensors are those that it was about.
func caught(e *C.ft_error, doing string, about ...Tensor) error {
	if e.text[0] == 0 {
		return nil
	}
	for _, t := range about {
		doing += fmt.Sprintf(" %q of %d bytes", t.Name(), t.Bytes())
		if d := t.Device(); !d.IsNil() {
			doing += " on device " + d.Name()
		}
	}
	if bool(e.memory) {
		return fmt.Errorf("ggml: %s: %w: %s", doing, ErrNoMemory, reason(e))
	}
	return fmt.Errorf("ggml: %s: %s", doing, reason(e))
}

// reason returns what was caught, or that nothing was.
func reason(e *C.ft_error) string {
	if text := C.GoString(&e.text[0]); text != "" {
		return text
	}
	return "the backend gives no reason"
}
