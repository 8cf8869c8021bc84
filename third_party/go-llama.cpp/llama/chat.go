package llama

/*
#include <stdlib.h>
#include "bridge.h"
*/
import "C"

import "unsafe"

// ChatMessage is one turn of a chat.
type ChatMessage struct {
	Role    string // "system", "user", "assistant"
	Content string
}

// ApplyChatTemplate writes msgs in the form that tmpl, a model's chat template, stands for; "" is ChatML. addAssistant
// ends the text with what starts an assistant turn. llama.cpp does not run the template: it knows a few dozen by their
// marks, and any other is an *Error.
func ApplyChatTemplate(tmpl string, msgs []ChatMessage, addAssistant bool) (string, error) {
	const op = "apply chat template"
	var ctmpl *C.char
	if tmpl != "" {
		ctmpl = C.CString(tmpl)
		defer C.free(unsafe.Pointer(ctmpl))
	}
	roles, contents := newCStrings(len(msgs)), newCStrings(len(msgs))
	defer roles.free()
	defer contents.free()
	size := 256
	for i, m := range msgs {
		roles.set(i, m.Role)
		contents.set(i, m.Content)
		size += len(m.Role) + 2*len(m.Content)
	}
	for {
		buf := (*C.char)(C.malloc(C.size_t(size)))
		var e C.fl_error
		n := int(C.fl_apply_template(ctmpl, roles.p, contents.p, C.size_t(len(msgs)), C.bool(addAssistant), buf, C.int32_t(size), &e))
		s := C.GoStringN(buf, C.int(min(max(n, 0), size)))
		C.free(unsafe.Pointer(buf))
		if n < 0 {
			return "", nativeError(op, n, &e, "llama.cpp does not know this template")
		}
		if n <= size {
			return s, nil
		}
		size = n
	}
}

// cStrings is an array of C strings on the C heap.
type cStrings struct {
	p **C.char
	s []*C.char
}

func newCStrings(n int) cStrings {
	p := (**C.char)(C.calloc(C.size_t(n)+1, C.size_t(unsafe.Sizeof((*C.char)(nil)))))
	return cStrings{p, unsafe.Slice(p, n)}
}

func (c cStrings) set(i int, s string) { c.s[i] = C.CString(s) }

func (c cStrings) free() {
	for _, s := range c.s {
		C.free(unsafe.Pointer(s))
	}
	C.free(unsafe.Pointer(c.p))
}
