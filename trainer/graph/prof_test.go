package graph

import (
	"fmt"
	"os"
	"testing"
	"time"
	"finetune/adapter"
)

func TestProf(t *testing.T) {
	path := os.Getenv("PROF")
	if path == "" {
		t.Skip()
	}
	m := loadModel(t, path)
	for _, method := range []adapter.Method{adapter.MethodLoRA, adapter.MethodDual} {
		weights := allLinear(t, path, method, 8)
		sh := Shape{512, 1}
		e := newEngine(t, m, weights, Options{Shape: sh, Threads: 1})
		ws := windows(sh, m.Vocab().NTokens())
		e.Step(ws, 1)
		st := time.Now()
		e.Step(ws, 1)
		fmt.Println(method, "step", time.Since(st), e.WorkBytes()>>20, "MiB head", e.head.alloc.Bytes()>>20)
		ops, err := e.Profile(ws)
		if err != nil {
			t.Fatal(err)
		}
		for i, o := range ops {
			if i < 22 {
				fmt.Printf("%-8s %-14s %5d %.1f ms\n", o.Part, o.Op, o.Nodes, o.Seconds*1000)
			}
		}
	}
}
