package convert

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"finetune/internal/testmodel"
	"finetune/merge"
)

// A PEFT adapter on the embeddings of a model that has an output matrix of its own is merged into that base, and refused for
// one whose output matrix is the embeddings: nothing is written then.
func TestEmbeddingsAreMergedWhereTheyAreNotTheHead(t *testing.T) {
	untied, tied := testmodel.Path(t, testmodel.Spec{}), testmodel.Path(t, testmodel.Spec{Tied: true})
	m := mustModel(t, untied)
	from := peftFolder(m, 4, func(mod module) bool {
		return strings.HasSuffix(mod.name, "embed_tokens") || strings.HasSuffix(mod.name, "q_proj")
	}).write(t)
	lora, _ := mustRun(t, from, GGUF, untied)
	into := func(base string) (*merge.Result, string, error) {
		out := filepath.Join(t.TempDir(), "out.gguf")
		r, err := merge.Merge(t.Context(), merge.Config{Model: base, Adapters: []merge.Adapter{{Path: lora, Scale: 1}}, Out: out}, nil)
		return r, out, err
	}
	r, _, err := into(untied)
	if err != nil {
		t.Fatal(err)
	}
	merged := map[string]bool{}
	for _, tensor := range r.Tensors {
		merged[tensor.Name] = true
	}
	if !merged["token_embd.weight"] || !merged["blk.0.attn_q.weight"] || merged["output.weight"] {
		t.Errorf("merged %v, want the embeddings and not the output matrix", merged)
	}
	_, out, err := into(tied)
	if err == nil || !strings.Contains(err.Error(), `tensor "token_embd.weight": the model's output matrix is its table of embeddings`) {
		t.Errorf("into a tied base: %v, want a refusal", err)
	}
	if _, err := os.Stat(out); err == nil {
		t.Error("a file was written all the same")
	}
}
