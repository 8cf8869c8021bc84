package main

import (
	"strings"
	"testing"
)

func TestReasonOfACrash(t *testing.T) {
	for _, tt := range []struct{ name, last, want string }{
		{"nothing", "", ""},
		{"an assertion of ggml", "/home/x/ggml/src/ggml.c:12: GGML_ASSERT(a) failed\nSIGABRT: abort\nPC=0x1\n\ngoroutine 1:\n", "ggml.c:12: GGML_ASSERT(a) failed"},
		{"an exception", "terminate called after throwing an instance of 'std::runtime_error'\n  what():  x\nSIGABRT: abort\n", "terminate called after throwing an instance of 'std::runtime_error': what():  x"},
		{"a signal in native code", "SIGSEGV: segmentation violation\nPC=0x1 m=0 sigcode=1\nsignal arrived during cgo execution\n\ngoroutine 1:\n", "SIGSEGV: segmentation violation in native code"},
		{"a signal elsewhere", "fatal error: unexpected signal during runtime execution\n[signal SIGSEGV]\n", "fatal error: unexpected signal during runtime execution"},
		{"a panic of two lines", "panic: a\nb\n\ngoroutine 1 [running]:\n", "panic: a"},
		{"what a terminal would obey", "panic: a\x1b[2Jb\x07\u202ec\n", "panic: a [2Jb  c"},
		{"a long line", "panic: " + strings.Repeat("x", 1000), "panic: " + strings.Repeat("x", mostReason-len("panic: ")) + "…"},
	} {
		if got := reason([]byte(tt.last)); got != tt.want {
			t.Errorf("%s: reason = %q, want %q", tt.name, got, tt.want)
		}
	}
}
