package main

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"finetune/adapter"
	"finetune/device"
	"finetune/eval"
	"finetune/gguf"
	"finetune/imatrix"
	"finetune/internal/testmodel"
	"finetune/model"
)

// TestMergeTakesTheImportanceOfARun: what a run has gathered is used, unless another is given.
func TestMergeTakesTheImportanceOfARun(t *testing.T) {
	base, run, other := testmodel.Path(t, testmodel.Spec{}), t.TempDir(), t.TempDir()
	a := zeroAdapter()
	m := &imatrix.Matrix{Entries: map[string]imatrix.Entry{"blk.0.attn_q.weight": {Sum2: make([]float32, 64), Tokens: 1}}}
	for _, err := range []error{a.Save(filepath.Join(run, "adapter.gguf")), a.Save(filepath.Join(other, "adapter.gguf")),
		m.Save(filepath.Join(run, imatrix.FileName))} {
		if err != nil {
			t.Fatal(err)
		}
	}
	gathered := filepath.Join(run, imatrix.FileName)
	for _, tt := range []struct {
		f    mergeFlags
		want string
	}{
		{mergeFlags{adapters: []string{other}}, ""},
		{mergeFlags{adapters: []string{filepath.Join(run, "adapter.gguf")}}, ""},
		{mergeFlags{adapters: []string{other, run + ":0.5"}}, gathered},
		{mergeFlags{adapters: []string{run}, imatrix: "given.gguf"}, "given.gguf"},
	} {
		tt.f.model = base
		c, err := mergeConfig(newUI(io.Discard, io.Discard), tt.f)
		if err != nil || c.IMatrix != tt.want {
			t.Errorf("%q: importance %q, %v, want %q", tt.f.adapters, c.IMatrix, err, tt.want)
		}
		if last := c.Adapters[len(c.Adapters)-1].Path; filepath.Base(last) != "adapter.gguf" {
			t.Errorf("%q: adapter %q, want the file", tt.f.adapters, last)
		}
	}
}

// zeroAdapter fits testmodel's default and changes nothing.
func zeroAdapter() *adapter.Adapter {
	return &adapter.Adapter{Architecture: "llama", Weights: []adapter.Weight{{Name: "blk.0.attn_q.weight",
		Factors: &adapter.LoRA{A: adapter.NewMat(64, 1), B: adapter.NewMat(1, 64)}}}}
}

// TestAnotherChatTemplateIsWarnedOf: an adapter works all the same with a model whose template is another, but it was
// trained on other text than the model will see.
func TestAnotherChatTemplateIsWarnedOf(t *testing.T) {
	a := zeroAdapter()
	a.Meta = map[string]gguf.Value{adapter.KeyTemplateHash: model.HashText(testmodel.ChatML)}
	lora := filepath.Join(t.TempDir(), "adapter.gguf")
	if err := a.Save(lora); err != nil {
		t.Fatal(err)
	}
	for template, warned := range map[string]bool{"": false, testmodel.ChatML: false, "{{ messages }}": true} {
		path := testmodel.Path(t, testmodel.Spec{ChatTemplate: template})
		var merging, evaluating bytes.Buffer
		if _, err := mergeConfig(newUI(io.Discard, &merging), mergeFlags{model: path, adapters: []string{lora}}); err != nil {
			t.Fatal(err)
		}
		base, m, err := openModel(path, device.Placement{})
		if err != nil {
			t.Fatal(err)
		}
		e, err := eval.NewEvaluator(m, 32, 1)
		if err != nil {
			t.Fatal(err)
		}
		detach, err := attachOne(newUI(io.Discard, &evaluating), e, base, scaled{lora, 1})
		if err != nil {
			t.Fatal(err)
		}
		for what, said := range map[string]string{"merge": merging.String(), "eval": evaluating.String()} {
			if strings.Contains(said, "chat template") != warned {
				t.Errorf("%s on a model with template %.9q says %q, want a warning: %v", what, template, said, warned)
			}
		}
		if err := errors.Join(detach(), e.Close(), m.Close(), base.Close()); err != nil {
			t.Fatal(err)
		}
	}
}

// cancelOn is a stream that cancels when a text comes by.
type cancelOn struct {
	text   string
	cancel func()
}

func (c cancelOn) Write(p []byte) (int, error) {
	if bytes.Contains(p, []byte(c.text)) {
		c.cancel()
	}
	return len(p), nil
}

// TestMergeInterruptedLeavesNothing: also when the file is whole and only its loss is not measured yet.
func TestMergeInterruptedLeavesNothing(t *testing.T) {
	base, dir := testmodel.Path(t, testmodel.Spec{}), t.TempDir()
	lora, text := filepath.Join(t.TempDir(), "adapter.gguf"), filepath.Join(t.TempDir(), "text.txt")
	if err := errors.Join(zeroAdapter().Save(lora), os.WriteFile(text, bytes.Repeat([]byte("once upon a time "), 50), 0o666)); err != nil {
		t.Fatal(err)
	}
	f := mergeFlags{model: base, adapters: []string{lora}, out: filepath.Join(dir, "out.gguf"), data: text, ctx: 32, threads: 1}
	for _, at := range []string{"measuring the base with adapters", "measuring the merged model"} {
		ctx, cancel := context.WithCancel(t.Context())
		_, err := mergeModel(ctx, newUI(io.Discard, cancelOn{at, cancel}), f)
		if !errors.Is(err, context.Canceled) {
			t.Errorf("%s: %v, want %v", at, err, context.Canceled)
		}
		if left, _ := os.ReadDir(dir); len(left) > 0 {
			t.Errorf("%s: left %q", at, left[0].Name())
		}
	}
	if r, err := mergeModel(t.Context(), newUI(io.Discard, io.Discard), f); err != nil || r.Merged != r.Base {
		t.Errorf("merged loss %v, %v, want the base's", r, err)
	}
}
