package llama_test

import (
	"testing"

	"github.com/go-skynet/go-llama.cpp/llama"
)

func TestLogBecomesOneLine(t *testing.T) {
	for _, tt := range []struct{ in, want string }{
		{"", ""},
		{"llama_model_load: error loading model: llama_model_loader: unknown thing\nllama_model_load_from_file_impl: failed to load model\n", "unknown thing"},
		{"gguf_init_from_file_impl: failed to read header\nllama_model_load: error loading model: llama_model_loader: failed to load model from a.gguf\n", "failed to read header"},
		{"decode: first\nllama_context::decode: second", "decode: first; second"},
		{"tensor 'a' has 3 rows: want 4\n", "tensor 'a' has 3 rows: want 4"},
	} {
		if got := llama.CleanLog(tt.in); got != tt.want {
			t.Errorf("CleanLog(%q) = %q, want %q", tt.in, got, tt.want)
		}
	}
}
