package llamatest

import (
	"encoding/json"
	"os"
	"path/filepath"
	"testing"
)

// Reference is what other programs made of Model: Hugging Face's tokenizers and transformers, in float32.
type Reference struct {
	Tokens []struct {
		Text string
		IDs  []int32
	}
	Prompt       string
	Continuation string    // of Prompt, greedily: every token is ahead of the next likeliest
	Read         []int32   // tokens
	Logits       []float32 // behind the last of Read, of every so many tokens of the vocabulary one
	Every        int
}

// ReadReference reads testdata/base.json, which scripts/fixtures of the repository writes.
func ReadReference(t testing.TB) (r Reference) {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(moduleRoot(t), "testdata", "base.json"))
	if err == nil {
		err = json.Unmarshal(text, &r)
	}
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// Text writes a file that is no GGUF.
func Text(t testing.TB) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "text.gguf")
	if err := os.WriteFile(path, []byte("Once upon a time there was a text.\n"), 0o666); err != nil {
		t.Fatal(err)
	}
	return path
}
