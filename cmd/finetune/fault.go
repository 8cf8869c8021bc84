//go:build faults

package main

import (
	"os"

	"finetune/kernels"
)

// faultVariable names the crash that a build for tests is to end in.
const faultVariable = "FINETUNE_TEST_FAULT"

func init() {
	testOnlyFault = func() {
		switch kind := os.Getenv(faultVariable); kind {
		case "":
		case "panic":
			go panic("nobody foresaw\nthis")
			select {}
		case "deep":
			deeper(0)
		case "twice":
			writeTwice()
		case "large":
			held = make([]byte, 1<<45)
		default:
			if !kernels.Fault(kind) {
				panic("no fault " + kind)
			}
		}
	}
}

var held []byte

// deeper uses up the stack of a goroutine.
func deeper(n int) int { return deeper(n+1) + n }

// writeTwice writes a map from two goroutines, which Go's runtime ends with a fatal error that nothing can recover.
func writeTwice() {
	m := map[int]int{}
	write := func() {
		for i := 0; ; i++ {
			m[i%8] = i
		}
	}
	go write()
	write()
}
