package main

import "syscall"

// dieWith has the worker killed with the supervisor, so that a killed training does not go on.
func dieWith() *syscall.SysProcAttr { return &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL} }
