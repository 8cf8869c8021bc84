//go:build !linux

package main

import "syscall"

// dieWith has nothing here that the system could do; the worker ends itself (watchSupervisor).
func dieWith() *syscall.SysProcAttr { return nil }
