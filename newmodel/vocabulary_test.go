package newmodel

import (
	"errors"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"finetune/gguf"
)

// replaced returns keys with one of them changed, or dropped for nil.
func replaced(kvs []gguf.KV, name string, value any) []gguf.KV {
	var out []gguf.KV
	for _, kv := range kvs {
		if kv.Key == tokenizerKeys+name {
			kv.Value = value
		}
		if kv.Value != nil {
			out = append(out, kv)
		}
	}
	return out
}

func TestNewVocabularyRefuses(t *testing.T) {
	good := small().Vocabulary().kvs
	for _, tt := range []struct {
		name  string
		value any
		msg   string
	}{
		{"ggml.model", nil, "without a kind"},
		{"ggml.model", uint32(1), "without a kind"},
		{"ggml.tokens", nil, "without tokens"},
		{"ggml.tokens", []int32{1}, "without tokens"},
		{"ggml.tokens", []string{"a", "b", "a"}, `token "a" is there twice, as 0 and as 2`},
		{"ggml.tokens", []string{"[EMPTY_1]", ""}, "is there twice"},
		{"ggml.tokens", []string{"a"}, `"tokenizer.ggml.token_type" has not a number for each of 1 tokens`},
		{"ggml.token_type", []int64{1}, `"tokenizer.ggml.token_type" has not`},
		{"ggml.token_type", "normal", `"tokenizer.ggml.token_type" has not`},
		{"ggml.merges", nil, "without merges"},
		{"ggml.merges", gguf.ArrayOf[int32](1), "without merges"},
		{"ggml.eos_token_id", uint32(400), `"tokenizer.ggml.eos_token_id" is 400, want one of 400`},
		{"ggml.eos_token_id", int32(-1), "is -1"},
	} {
		_, err := NewVocabulary(replaced(good, tt.name, tt.value))
		if err == nil || !strings.Contains(err.Error(), tt.msg) {
			t.Errorf("NewVocabulary with %s = %v: %v, want an error that says %q", tt.name, tt.value, err, tt.msg)
		}
	}
	if _, err := NewVocabulary(append(slices.Clone(good), gguf.KV{Key: "general.name", Value: "x"})); err == nil {
		t.Error("NewVocabulary takes a key that is none of a tokenizer")
	}
	if _, err := NewVocabulary(append(slices.Clone(good), gguf.KV{Key: "tokenizer.ggml.scores", Value: []float32{1}})); err == nil {
		t.Error("NewVocabulary takes one score for 400 tokens")
	}
}

func TestReadVocabularyIsWhatWasWritten(t *testing.T) {
	want := small().Vocabulary()
	got, err := ReadVocabulary(written(t, tiny("llama")))
	if err != nil {
		t.Fatal(err)
	}
	if got.Len() != want.Len() || got.Len() != 400 || !got.has("<|im_end|>") || got.has("<|im_and|>") || len(got.kvs) != len(want.kvs) {
		t.Errorf("ReadVocabulary has %d tokens in %d keys, want %d in %d", got.Len(), len(got.kvs), want.Len(), len(want.kvs))
	}
	for i, kv := range got.kvs {
		if kv.Key != want.kvs[i].Key {
			t.Errorf("key %d is %q, want %q", i, kv.Key, want.kvs[i].Key)
		}
	}
}

func TestReadVocabularyRefuses(t *testing.T) {
	write := func(kvs ...gguf.KV) string {
		b := gguf.NewBuilder()
		b.SetAll(kvs)
		path := filepath.Join(t.TempDir(), "x.gguf")
		if err := b.WriteFile(path); err != nil {
			t.Fatal(err)
		}
		return path
	}
	for msg, path := range map[string]string{
		"holds no tokenizer": write(gguf.KV{Key: "general.type", Value: "adapter"}),
		"without tokens":     write(gguf.KV{Key: "tokenizer.ggml.model", Value: "gpt2"}),
	} {
		_, err := ReadVocabulary(path)
		var bad *gguf.FormatError
		if !errors.As(err, &bad) || !strings.Contains(err.Error(), msg) || !strings.Contains(err.Error(), path) {
			t.Errorf("ReadVocabulary = %v, want a *gguf.FormatError that says %q and names the file", err, msg)
		}
	}
}
