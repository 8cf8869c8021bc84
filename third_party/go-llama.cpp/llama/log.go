package llama

// #include "bridge.h"
import "C"

import "sync/atomic"

// LogLevel is the level of a log line, with llama.cpp's numbers.
type LogLevel int

// The levels of llama.cpp's and ggml's log.
const (
	LogDebug    LogLevel = C.GGML_LOG_LEVEL_DEBUG
	LogInfo     LogLevel = C.GGML_LOG_LEVEL_INFO
	LogWarn     LogLevel = C.GGML_LOG_LEVEL_WARN
	LogError    LogLevel = C.GGML_LOG_LEVEL_ERROR
	LogContinue LogLevel = C.GGML_LOG_LEVEL_CONT // goes on with the line before
)

var logHook atomic.Pointer[func(LogLevel, string)]

// The library logs to stderr until it is told otherwise. This package is initialized after those that it imports, so the
// choice is the last one made.
func init() { C.fl_install() }

// SetLog sends the log of llama.cpp and ggml to f, nil to nobody, which is the default. The text is what the library
// wrote: often a line with its newline, sometimes a part of one. f may be called from several threads at once, inside
// calls of this package, and must not call back into it. What llama.cpp logs about the abort that ends a trace is left out.
func SetLog(f func(level LogLevel, text string)) {
	if f == nil {
		logHook.Store(nil)
	} else {
		logHook.Store(&f)
	}
	C.fl_log_forward(C.bool(f != nil))
}

//export flGoLog
func flGoLog(level C.int, text *C.char) {
	if f := logHook.Load(); f != nil {
		(*f)(LogLevel(level), C.GoString(text))
	}
}
