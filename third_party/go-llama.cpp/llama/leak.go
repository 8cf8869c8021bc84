package llama

import (
	"fmt"
	"runtime"
	"sync/atomic"
)

var leakHook atomic.Pointer[func(string)]

// OnLeak sets what happens when the garbage collector finds a Model, Context, Adapter or Sampler that was never closed: f
// is told what it was and the file and line that opened it. Tests make that a failure. By default nothing happens; the
// native memory stays lost either way, since a view of it may still be in use.
func OnLeak(f func(what string)) {
	if f == nil {
		leakHook.Store(nil)
		return
	}
	leakHook.Store(&f)
}

// closer is embedded in what has to be closed. It is a pointer, to an object that refers to nothing: those that embed it
// refer to each other in circles, and finalizers do not run on a circle.
type closer struct{ *mark }

type mark struct{ closed bool }

// watch makes the closer of a new object and reports through the hook when it is collected without having been closed.
// The opener is the caller of the constructor that calls watch.
func watch(what string) closer {
	_, file, line, _ := runtime.Caller(2)
	m := &mark{}
	runtime.SetFinalizer(m, func(m *mark) {
		if f := leakHook.Load(); f != nil && !m.closed {
			(*f)(fmt.Sprintf("llama: %s opened at %s:%d was never closed", what, file, line))
		}
	})
	return closer{m}
}
