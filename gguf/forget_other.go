//go:build !linux

package gguf

// forget does nothing where the standard library cannot ask for it.
func forget([]byte) {}
