//go:build !unix

package main

import (
	"os"
	"syscall"
)

var fatalWrites = []os.Signal{syscall.SIGPIPE}
