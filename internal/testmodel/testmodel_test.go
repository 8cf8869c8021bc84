package testmodel

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"finetune/gguf"
)

func TestSameSpecSameBytes(t *testing.T) {
	read := func(s Spec) []byte {
		b, err := os.ReadFile(Path(t, s))
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	for _, arch := range Architectures() {
		first := read(Spec{Arch: arch, Seed: 1})
		if !bytes.Equal(first, read(Spec{Arch: arch, Seed: 1})) {
			t.Errorf("%s: the same seed gives another file", arch)
		}
		if bytes.Equal(first, read(Spec{Arch: arch, Seed: 2})) {
			t.Errorf("%s: another seed gives the same file", arch)
		}
	}
}

func TestTypesAndFallback(t *testing.T) {
	f, err := gguf.Open(Path(t, Spec{Type: gguf.TypeQ8_0, FF: 72}))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	want := map[string]gguf.Type{
		"token_embd.weight":     gguf.TypeQ8_0,
		"blk.1.attn_q.weight":   gguf.TypeQ8_0,
		"blk.1.ffn_up.weight":   gguf.TypeQ8_0, // [64, 72]
		"blk.1.ffn_down.weight": gguf.TypeF16,  // [72, 64]
		"blk.1.ffn_norm.weight": gguf.TypeF32,
	}
	for name, typ := range want {
		if got, ok := f.Tensor(name); !ok || got.Type != typ {
			t.Errorf("tensor %q has type %v, want %v", name, got.Type, typ)
		}
	}
}

func TestTiedHasNoOutput(t *testing.T) {
	for _, tied := range []bool{false, true} {
		f, err := gguf.Open(Path(t, Spec{Tied: tied}))
		if err != nil {
			t.Fatal(err)
		}
		if _, ok := f.Tensor("output.weight"); ok == tied {
			t.Errorf("tied %v: output.weight there: %v", tied, ok)
		}
		f.Close()
	}
}

func TestWriteRefuses(t *testing.T) {
	tests := []struct {
		spec Spec
		msg  string
	}{
		{Spec{Arch: "gpt5"}, "not one of falcon, gemma"},
		{Spec{Layers: -1}, "want all above 0"},
		{Spec{Heads: -4}, "want all above 0"},
		{Spec{HeadsKV: 3}, "want a divisor"},
		{Spec{Embd: 24}, "multiple of 4"},
		{Spec{Arch: "qwen2", HeadDim: 32}, "4 heads of 32, want 64 together"},
		{Spec{Arch: "phi2", Tied: true}, "cannot be tied"},
		{Spec{Type: gguf.TypeQ4_K}, "matrices of type q4_K"},
	}
	for _, tt := range tests {
		path := filepath.Join(t.TempDir(), "m.gguf")
		err := Write(path, tt.spec)
		if err == nil || !strings.Contains(err.Error(), tt.msg) {
			t.Errorf("Write(%+v) = %v, want an error that says %q", tt.spec, err, tt.msg)
		}
		if _, err := os.Stat(path); err == nil {
			t.Errorf("Write(%+v) left a file", tt.spec)
		}
	}
}
