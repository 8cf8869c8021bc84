package adapter

import (
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"finetune/gguf"
	"finetune/model"
)

// TestEmbeddingsAreStoredTheOtherWayRound: as llama.cpp reads a LoRA of token_embd.weight [n_embd, n_vocab], with
// lora_a [rank, n_vocab] and lora_b [rank, n_embd]; in memory it is like that of any weight.
func TestEmbeddingsAreStoredTheOtherWayRound(t *testing.T) {
	const embd, vocab, rank = 3, 5, 2
	l := &LoRA{A: Mat{NE: [2]int{embd, rank}}, B: Mat{NE: [2]int{rank, vocab}}, Alpha: 4}
	for i := range embd * rank {
		l.A.Data = append(l.A.Data, float32(i+1))
	}
	for i := range rank * vocab {
		l.B.Data = append(l.B.Data, float32(100+i))
	}
	a := &Adapter{Architecture: "llama", Weights: []Weight{{"token_embd.weight", l}}}
	path := filepath.Join(t.TempDir(), "a.gguf")
	if err := a.Save(path); err != nil {
		t.Fatal(err)
	}
	f, err := gguf.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for name, want := range map[string][]int64{"token_embd.weight.lora_a": {rank, vocab}, "token_embd.weight.lora_b": {rank, embd}} {
		if tensor, ok := f.Tensor(name); !ok || !slices.Equal(tensor.Shape, want) {
			t.Errorf("%s: %v, want shape %v", name, tensor, want)
		}
	}
	got, err := Load(path)
	if err != nil {
		t.Fatal(err)
	}
	back, ok := got.Weights[0].Factors.(*LoRA)
	if !ok || !slices.Equal(back.A.Data, l.A.Data) || !slices.Equal(back.B.Data, l.B.Data) || back.A.NE != l.A.NE || back.B.NE != l.B.NE {
		t.Errorf("read back as %+v, want %+v", got.Weights[0].Factors, l)
	}

	base := model.Identity{Architecture: "llama", Tensors: []gguf.Tensor{{Name: "token_embd.weight", Shape: []int64{embd, vocab}}}}
	if err := got.CheckBase(base); err == nil || !strings.Contains(err.Error(), "the model's output matrix is its table of embeddings") {
		t.Errorf("a base whose output is its embeddings: %v, want a refusal", err)
	}
	base.Tensors = append(base.Tensors, gguf.Tensor{Name: "output.weight", Shape: []int64{embd, vocab}})
	if err := got.CheckBase(base); err != nil {
		t.Errorf("a base with an output of its own: %v", err)
	}
}
