package llama

// #include "bridge.h"
import "C"

import (
	"fmt"
	"regexp"
	"strings"
)

// Error is a refusal by llama.cpp or by the checks in front of it.
type Error struct {
	Op   string // what was tried, subject quoted: `load model "x.gguf"`
	Code int    // llama.cpp's return code; 0 when it has none, CodeException for a C++ exception
	Msg  string // one line: what llama.cpp logged, or what was wanted and got
}

// CodeException is the Code of an Error that was a C++ exception.
const CodeException = C.FL_EXCEPTION

// The codes of Context.Decode that a caller may want to tell apart, as llama_decode defines them.
const (
	CodeNoSlot       = 1  // the memory has no room: a smaller batch, fewer tokens kept or a larger NCtx would do
	CodeAborted      = 2  // stopped by the abort callback
	CodeInvalidBatch = -1 // tokens, positions or sequence ids that do not fit the context
)

func (e *Error) Error() string { return "llama: " + e.Op + ": " + e.Msg }

func errorf(op, format string, args ...any) error {
	return &Error{Op: op, Msg: fmt.Sprintf(format, args...)}
}

// nativeError returns the Error of a failed call; or says what to tell when llama.cpp said nothing.
func nativeError(op string, code int, e *C.fl_error, or string) error {
	msg := cleanLog(C.GoString(&e.text[0]))
	if msg == "" {
		msg = or
	}
	return &Error{Op: op, Code: code, Msg: msg}
}

var (
	// Every log line of llama.cpp starts with the C++ function it comes from.
	logFunction = regexp.MustCompile(`^[A-Za-z_][\w:~]*: +`)
	logNoise    = regexp.MustCompile(`^(failed to load model$|failed to load (model|lora adapter file) from .*|error loading model: |failed to apply lora adapter: |failed to initialize the context: )`)
)

// cleanLog makes one line of what llama.cpp logged: without function names, without the lines that only say that it failed.
func cleanLog(text string) string {
	var parts []string
	for line := range strings.Lines(text) {
		line = strings.TrimSpace(line)
		for range 2 { // a message may carry the name of the function that threw it
			if f := logFunction.FindString(line); strings.ContainsAny(f, "_~") {
				line = line[len(f):]
			}
			line = logNoise.ReplaceAllString(line, "")
		}
		if line != "" {
			parts = append(parts, line)
		}
	}
	return strings.Join(parts, "; ")
}
