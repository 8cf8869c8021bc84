//go:build unix

package main

import "syscall"

// leaveNoCore keeps the system from writing the memory of a crashed worker to a file. What can be told of the crash is in the
// report.
func leaveNoCore() { syscall.Setrlimit(syscall.RLIMIT_CORE, &syscall.Rlimit{}) }
