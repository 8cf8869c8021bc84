package model_test

import (
	"encoding/binary"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"finetune/gguf"
	"finetune/internal/hint"
	"finetune/internal/testmodel"
	"finetune/model"
)

// file writes a GGUF of the given general.type, with a tensor of that name if one is given.
func file(t *testing.T, kind, tensor string) string {
	t.Helper()
	b := gguf.NewBuilder()
	b.Set("general.architecture", "llama")
	for _, key := range []string{"block_count", "context_length", "embedding_length", "attention.head_count"} {
		b.Set("llama."+key, uint32(2))
	}
	if kind != "" {
		b.Set("general.type", kind)
	}
	if tensor != "" {
		b.AddTensor(tensor, gguf.TypeF32, []int64{2}, make([]byte, 8))
	}
	path := filepath.Join(t.TempDir(), "model.gguf")
	if err := b.WriteFile(path); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestOpenRefusesWhatIsNoBase(t *testing.T) {
	for _, tt := range []struct {
		name, path, want string
		hinted           bool
	}{
		{"adapter", file(t, "adapter", "blk.0.attn_q.weight.lora_a"), "holds an adapter, want a base model", true},
		{"importance matrix", file(t, "imatrix", "blk.0.attn_q.weight.in_sum2"), "holds an importance matrix, want a base model", true},
		{"tokenizer alone", file(t, "model", ""), `holds no weights (no tensor "token_embd.weight")`, false},
		{"big endian", bigEndian(t), "is big endian, which llama.cpp does not load", false},
		{"nothing", filepath.Join(t.TempDir(), "none.gguf"), "no such file", false},
	} {
		b, err := model.Open(tt.path)
		if err == nil || !strings.Contains(err.Error(), tt.want) || strings.Contains(err.Error(), "\n") || (len(hint.Of(err)) > 0) != tt.hinted {
			t.Errorf("%s: Open = %v, hints %q, want one line with %q", tt.name, err, hint.Of(err), tt.want)
		}
		if err == nil {
			b.Close()
		}
	}
	for _, path := range []string{file(t, "model", "token_embd.weight"), file(t, "", "token_embd.weight")} {
		b, err := model.Open(path)
		if err != nil {
			t.Fatal(err)
		}
		if b.Bytes() != 8 {
			t.Errorf("Bytes = %d, want 8", b.Bytes())
		}
		b.Close()
	}
	parts, err := model.OpenParts(file(t, "model", "blk.0.ffn_up.weight"))
	if err != nil {
		t.Fatalf("OpenParts of a file without embeddings: %v", err)
	}
	parts.Close()
}

// bigEndian is a header in that byte order: magic, version, no tensors, no keys.
func bigEndian(t *testing.T) string {
	t.Helper()
	header := []byte("GGUF")
	header = binary.BigEndian.AppendUint32(header, 3)
	header = binary.BigEndian.AppendUint64(header, 0)
	header = binary.BigEndian.AppendUint64(header, 0)
	path := filepath.Join(t.TempDir(), "big.gguf")
	if err := os.WriteFile(path, header, 0o666); err != nil {
		t.Fatal(err)
	}
	return path
}

func identity(t *testing.T, s testmodel.Spec) model.Identity {
	t.Helper()
	b, err := model.Open(testmodel.Path(t, s))
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	id, err := b.Identity()
	if err != nil {
		t.Fatal(err)
	}
	return id
}

// Quantizing the matrices leaves the norms, and so the hash; other norms and another template are told.
func TestIdentity(t *testing.T) {
	first := identity(t, testmodel.Spec{Type: gguf.TypeF32})
	if len(first.Hash) != len("sha256:")+64 || first.Architecture != "llama" || first.Name != "testmodel llama" || first.Template != "" {
		t.Errorf("identity %+v", first)
	}
	if !slices.IsSortedFunc(first.Tensors, func(a, b gguf.Tensor) int { return model.CompareNames(a.Name, b.Name) }) {
		t.Error("the tensors are not sorted")
	}
	for _, typ := range []gguf.Type{gguf.TypeF16, gguf.TypeQ8_0, gguf.TypeQ4_0} {
		if id := identity(t, testmodel.Spec{Type: typ}); id.Hash != first.Hash {
			t.Errorf("%v has the hash %s, F32 %s", typ, id.Hash, first.Hash)
		}
	}
	if id := identity(t, testmodel.Spec{Seed: 1}); id.Hash == first.Hash {
		t.Error("other norms have the same hash")
	}
	chat := identity(t, testmodel.Spec{ChatTemplate: testmodel.ChatML})
	if chat.Template != model.HashText(testmodel.ChatML) || chat.Hash != first.Hash {
		t.Errorf("with a template: %s, %s", chat.Template, chat.Hash)
	}
}

func TestNamesByBlock(t *testing.T) {
	names := []string{"blk.10.attn_k.weight", "output.weight", "blk.2.ffn_up.weight", "blk.2.attn_q.weight", "token_embd.weight"}
	slices.SortFunc(names, model.CompareNames)
	if want := []string{"output.weight", "token_embd.weight", "blk.2.attn_q.weight", "blk.2.ffn_up.weight", "blk.10.attn_k.weight"}; !slices.Equal(names, want) {
		t.Errorf("sorted %q, want %q", names, want)
	}
	for name, want := range map[string]int{"blk.12.attn_q.weight": 12, "blk.attn_q": -1, "blk.-1.x": -1, "blk.3": -1, "output.weight": -1, "blk.99999999999.x": -1} {
		if got := model.Block(name); got != want {
			t.Errorf("Block(%q) = %d, want %d", name, got, want)
		}
	}
}

// More tokens, and longer ones, take more memory.
func TestVocabBytes(t *testing.T) {
	size := func(vocab int) int64 {
		b, err := model.Open(testmodel.Path(t, testmodel.Spec{Layers: 1, Vocab: vocab}))
		if err != nil {
			t.Fatal(err)
		}
		defer b.Close()
		return b.VocabBytes()
	}
	small, large := size(1000), size(3000)
	if small < 1000*100 || large < small+2000*100 {
		t.Errorf("%d bytes for 1000 tokens, %d for 3000", small, large)
	}
}
