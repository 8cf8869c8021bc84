package main

import (
	"fmt"
	"runtime"
	"strings"
	"sync"

	"finetune/internal/machine"

	"github.com/go-skynet/go-llama.cpp/ggml"
	"github.com/go-skynet/go-llama.cpp/llama"
)

// startEngine is called first by every command that runs a model: it warns
// of a slow build and of threads that there are no cores for, and with
// --verbose lets llama.cpp's log through.
func startEngine(u *ui, threads int) {
	ggml.ReturnBlocks()
	if most := machine.ThreadCount(threads); threads > most {
		u.warn(fmt.Sprintf("--threads %d: this machine has %s, %d are used", threads, counted(runtime.NumCPU(), "core", "cores"), most))
	}
	if ok, cure := llama.FastBuild(); !ok {
		u.warn("built without AVX2 and FMA, which this processor has: everything will be many times slower",
			cure)
	}
	if u.verbose {
		log := &lineLog{say: u.say}
		llama.SetLog(func(_ llama.LogLevel, text string) { log.add(text) })
	}
}

// lineLog puts lines together from the pieces that a log arrives in.
type lineLog struct {
	say func(format string, args ...any)

	mu   sync.Mutex
	rest string // of a line whose end has not come yet
}

// add says every line that text completes.
func (l *lineLog) add(text string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	lines := strings.Split(l.rest+text, "\n")
	l.rest = lines[len(lines)-1]
	for _, line := range lines[:len(lines)-1] {
		if line = strings.TrimSpace(line); line != "" {
			l.say("llama.cpp: %s", line)
		}
	}
}
