package gguf

import "syscall"

// forget takes clean pages of a mapped file out of this process. They stay in the
// system's file cache and come back when they are touched.
func forget(mapped []byte) { syscall.Madvise(mapped, syscall.MADV_DONTNEED) }
