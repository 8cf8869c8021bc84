package llama_test

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/go-skynet/go-llama.cpp/internal/llamatest"
	"github.com/go-skynet/go-llama.cpp/llama"
)

func loadAdapter(t testing.TB, m *llama.Model, path string) *llama.Adapter {
	t.Helper()
	a, err := llama.LoadAdapter(m, path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { closeOrFail(t, a) })
	return a
}

func TestAdapterChangesLogitsAndClearingRestoresThem(t *testing.T) {
	m := small(t)
	a := loadAdapter(t, m, llamatest.WriteAdapter(t, llamatest.AdapterSpec{Alpha: 4}))
	c := newContext(t, m, llama.ContextParams{NCtx: 256})
	tokens := tokenize(t, m, "Once upon a time")
	base := lastLogits(t, c, tokens)

	if err := c.SetAdapter(a, 1); err != nil {
		t.Fatal(err)
	}
	full := lastLogits(t, c, tokens)
	if !(maxDiff(base, full) > 0) {
		t.Error("the adapter changes no logit")
	}
	if err := c.SetAdapter(a, 0.5); err != nil {
		t.Fatal(err)
	}
	if half := lastLogits(t, c, tokens); !(maxDiff(half, full) > 0) || !(maxDiff(half, base) > 0) {
		t.Error("scale 0.5 is the same as scale 1 or 0")
	}
	c.ClearAdapters()
	if got := lastLogits(t, c, tokens); !slices.Equal(got, base) {
		t.Errorf("logits after ClearAdapters differ by %g", maxDiff(got, base))
	}
}

func TestAdapterAlphaIsDividedByRank(t *testing.T) {
	m := small(t)
	c := newContext(t, m, llama.ContextParams{NCtx: 256})
	tokens := tokenize(t, m, "Once upon a time")
	// the same matrices: alpha 0 means no scale, alpha 4 at rank 2 means 2
	logits := func(alpha, scale float32) []float32 {
		a := loadAdapter(t, m, llamatest.WriteAdapter(t, llamatest.AdapterSpec{Alpha: alpha}))
		if err := c.SetAdapter(a, scale); err != nil {
			t.Fatal(err)
		}
		defer c.ClearAdapters()
		return lastLogits(t, c, tokens)
	}
	if !slices.Equal(logits(0, 2), logits(4, 1)) {
		t.Error("alpha 0 at scale 2 differs from alpha 4, rank 2 at scale 1")
	}
}

func TestAdapterMeta(t *testing.T) {
	m := small(t)
	a := loadAdapter(t, m, llamatest.WriteAdapter(t, llamatest.AdapterSpec{Alpha: 4}))
	if got, ok := a.Meta("adapter.type"); got != "lora" || !ok {
		t.Errorf(`Meta("adapter.type") = %q, %v, want "lora", true`, got, ok)
	}
	if _, ok := a.Meta("no.such.key"); ok {
		t.Error(`Meta("no.such.key") found something`)
	}
}

func TestWrongAdaptersAreErrors(t *testing.T) {
	m := small(t)
	whole, err := os.ReadFile(llamatest.WriteAdapter(t, llamatest.AdapterSpec{}))
	if err != nil {
		t.Fatal(err)
	}
	cut := filepath.Join(t.TempDir(), "cut.gguf")
	if err := os.WriteFile(cut, whole[:len(whole)-100], 0o666); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct{ name, path, want string }{
		{"other architecture", llamatest.WriteAdapter(t, llamatest.AdapterSpec{Arch: "qwen2"}), "model arch and LoRA arch mismatch"},
		{"not an adapter", llamatest.WriteAdapter(t, llamatest.AdapterSpec{Kind: "model"}), "expect general.type to be 'adapter'"},
		{"other shape", llamatest.WriteAdapter(t, llamatest.AdapterSpec{Embd: 32}), "incorrect shape"},
		{"truncated", cut, "cut.gguf"},
		{"a text", llamatest.Text(t), "not a GGUF file"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			_, err := llama.LoadAdapter(m, tt.path)
			var e *llama.Error
			if !errors.As(err, &e) || !strings.Contains(err.Error(), tt.want) || strings.Contains(err.Error(), "\n") {
				t.Errorf("LoadAdapter = %v, want one line with %q", err, tt.want)
			}
		})
	}
	if _, err := llama.LoadAdapter(m, "no/such/file"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("LoadAdapter of a missing file = %v, want fs.ErrNotExist", err)
	}
}

func TestOpenUsersKeepAdapterAndModelOpen(t *testing.T) {
	m, err := llama.LoadModel(llamatest.Model(t), llama.ModelParams{})
	if err != nil {
		t.Fatal(err)
	}
	a, err := llama.LoadAdapter(m, llamatest.WriteAdapter(t, llamatest.AdapterSpec{}))
	if err != nil {
		t.Fatal(err)
	}
	c, err := llama.NewContext(m, llama.ContextParams{})
	if err != nil {
		t.Fatal(err)
	}
	if err := c.SetAdapter(a, 1); err != nil {
		t.Fatal(err)
	}
	if a.Close() == nil || m.Close() == nil {
		t.Error("Close = nil while in use, want an error")
	}
	for range 2 { // a second Close does nothing
		for _, x := range []interface{ Close() error }{c, a, m} {
			if err := x.Close(); err != nil {
				t.Error(err)
			}
		}
	}
	if err := c.Decode(llama.Batch{Tokens: []int32{1}}); err == nil {
		t.Error("Decode on a closed context = nil, want an error")
	}
	if _, err := llama.NewContext(m, llama.ContextParams{}); err == nil {
		t.Error("NewContext of a closed model = nil, want an error")
	}
}

func TestAdapterOfAnotherModelIsRefused(t *testing.T) {
	m, other := small(t), small(t)
	a := loadAdapter(t, other, llamatest.WriteAdapter(t, llamatest.AdapterSpec{}))
	c := newContext(t, m, llama.ContextParams{})
	if err := c.SetAdapter(a, 1); err == nil || !strings.Contains(err.Error(), "another model") {
		t.Errorf("SetAdapter = %v, want it refused", err)
	}
}
