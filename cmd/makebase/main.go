// Makebase makes the parts of `make base` that are no finetune command: the text that the demo's base model learns, and the
// file that is shipped of it.
//
//	makebase corpus DATA WORK     reads the texts in DATA, writes WORK/train.jsonl, WORK/val.jsonl
//	makebase ship MODEL OUT       writes MODEL as OUT in Q8_0
package main

import (
	"fmt"
	"os"

	"github.com/go-skynet/go-llama.cpp/llama"
)

func main() {
	if len(os.Args) != 4 {
		fail(fmt.Errorf("want: makebase corpus DATA WORK, or makebase ship MODEL OUT"))
	}
	switch verb, from, to := os.Args[1], os.Args[2], os.Args[3]; verb {
	case "corpus":
		fail(corpus(from, to))
	case "ship":
		fail(llama.Quantize(from, to, "q8_0", 0))
	default:
		fail(fmt.Errorf("%q: want corpus or ship", verb))
	}
}

func fail(err error) {
	if err != nil {
		fmt.Fprintf(os.Stderr, "makebase: %v\n", err)
		os.Exit(1)
	}
}
