package llama_test

import (
	"path/filepath"
	"slices"
	"testing"

	"github.com/go-skynet/go-llama.cpp/llama"
)

func TestContextStateRoundTrip(t *testing.T) {
	m := small(t)
	c := newContext(t, m, llama.ContextParams{NCtx: 256})
	tokens := tokenize(t, m, "Once upon a time there was")
	decode(t, c, llama.Batch{Tokens: tokens})
	state, err := c.State()
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "session")
	if err := c.SaveState(path, tokens); err != nil {
		t.Fatal(err)
	}
	after := func(c *llama.Context) []float32 {
		decode(t, c, llama.Batch{Tokens: []int32{300}})
		return append([]float32(nil), c.Logits(0)...)
	}
	want := after(c)

	d := newContext(t, m, llama.ContextParams{NCtx: 256})
	if err := d.SetState(state); err != nil {
		t.Fatal(err)
	}
	if got := after(d); !slices.Equal(got, want) {
		t.Errorf("after SetState logits differ by %g", maxDiff(got, want))
	}
	got, err := d.LoadState(path)
	if err != nil || !slices.Equal(got, tokens) {
		t.Fatalf("LoadState = %v, %v, want %v", got, err, tokens)
	}
	if got := after(d); !slices.Equal(got, want) {
		t.Errorf("after LoadState logits differ by %g", maxDiff(got, want))
	}
	for _, bad := range [][]byte{nil, {1}, state[:len(state)/2]} {
		if err := d.SetState(bad); err == nil || d.Len(0) != 0 {
			t.Errorf("SetState of %d bytes = %v with %d tokens kept, want an error and none", len(bad), err, d.Len(0))
		}
	}
}
