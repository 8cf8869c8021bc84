package newmodel

import (
	"fmt"
	"strings"

	"finetune/gguf"
	"finetune/internal/hint"
)

// Kinds of tokens, as tokenizer.ggml.token_type has them.
const (
	TokenNormal  int32 = 1
	TokenUnknown int32 = 2
	TokenControl int32 = 3
	TokenUnused  int32 = 5
	TokenByte    int32 = 6
)

// ChatML is a chat template over <|im_start|> and <|im_end|>, which every tokenizer of
// TrainBPE has.
const ChatML = "{% for message in messages %}{{'<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n'}}{% endfor %}" +
	"{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"

// prefix of every key that a tokenizer is made of.
const tokenizerKeys = "tokenizer."

// Vocabulary is a tokenizer as a GGUF file holds it, of any kind that llama.cpp reads. It is
// never changed: goroutines may share it.
type Vocabulary struct {
	kvs   []gguf.KV
	index map[string]int32 // of the tokens
}

// ReadVocabulary takes the tokenizer out of a GGUF file. Errors are those of gguf.Open, and
// a *gguf.FormatError for a tokenizer that llama.cpp would not survive.
func ReadVocabulary(path string) (*Vocabulary, error) {
	f, err := gguf.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	var kvs []gguf.KV
	for _, kv := range f.KVs() {
		if strings.HasPrefix(kv.Key, tokenizerKeys) {
			kvs = append(kvs, kv)
		}
	}
	if len(kvs) == 0 {
		return nil, hint.With(&gguf.FormatError{Path: path, Msg: "holds no tokenizer"}, "give a model, not an adapter")
	}
	v, err := NewVocabulary(kvs)
	if err != nil {
		return nil, &gguf.FormatError{Path: path, Msg: err.Error()}
	}
	return v, nil
}

// NewVocabulary makes a vocabulary of the keys "tokenizer.…" and their values. It checks what
// llama.cpp takes for granted when it reads them: lists as long as that of the tokens, of the
// right kind; tokens that differ; special tokens that are there.
func NewVocabulary(kvs []gguf.KV) (*Vocabulary, error) {
	values := make(map[string]any, len(kvs))
	for _, kv := range kvs {
		name, ok := strings.CutPrefix(kv.Key, tokenizerKeys)
		if !ok {
			return nil, fmt.Errorf("key %q is none of a tokenizer", kv.Key)
		}
		if slice, ok := kv.Value.(gguf.Array); ok {
			values[name] = slice.Values()
		} else {
			values[name] = kv.Value
		}
	}
	model, _ := values["ggml.model"].(string)
	tokens, _ := values["ggml.tokens"].([]string)
	switch {
	case model == "":
		return nil, fmt.Errorf("tokenizer without a kind, want a text in %q", tokenizerKeys+"ggml.model")
	case len(tokens) == 0:
		return nil, fmt.Errorf("tokenizer of kind %q without tokens", model)
	}
	v := &Vocabulary{kvs: kvs}
	if err := v.setIndex(tokens); err != nil {
		return nil, err
	}
	if err := checkLists(model, values, len(tokens)); err != nil {
		return nil, err
	}
	return v, checkSpecial(kvs, len(tokens))
}

// setIndex refuses tokens that are there twice: llama.cpp counts on finding each by its text,
// and ends the process if it does not.
func (v *Vocabulary) setIndex(tokens []string) error {
	v.index = make(map[string]int32, len(tokens))
	for i, t := range tokens {
		if t == "" {
			t = fmt.Sprintf("[EMPTY_%d]", i) // as llama.cpp calls it
		}
		if first, twice := v.index[t]; twice {
			return fmt.Errorf("token %q is there twice, as %d and as %d", t, first, i)
		}
		v.index[t] = int32(i)
	}
	return nil
}

// checkLists checks what is read as a plain array of the tokens' length.
func checkLists(model string, values map[string]any, tokens int) error {
	for _, list := range []struct {
		name string
		n    int
	}{
		{"ggml.scores", lengthOf[float32](values["ggml.scores"])},
		{"ggml.token_type", max(lengthOf[int32](values["ggml.token_type"]), lengthOf[uint32](values["ggml.token_type"]))},
	} {
		if _, there := values[list.name]; there && list.n != tokens {
			return fmt.Errorf("%q has not a number for each of %d tokens", tokenizerKeys+list.name, tokens)
		}
	}
	if model == "gpt2" && lengthOf[string](values["ggml.merges"]) < 0 {
		return fmt.Errorf("tokenizer of kind %q without merges", model)
	}
	return nil
}

func checkSpecial(kvs []gguf.KV, tokens int) error {
	for _, kv := range kvs {
		if !strings.HasSuffix(kv.Key, "_token_id") {
			continue
		}
		if id, ok := kv.Value.(uint32); !ok || int64(id) >= int64(tokens) {
			return fmt.Errorf("%q is %v, want one of %d tokens", kv.Key, kv.Value, tokens)
		}
	}
	return nil
}

// lengthOf returns the length of a list of T, −1 if it is no such list.
func lengthOf[T any](list any) int {
	if l, ok := list.([]T); ok {
		return len(l)
	}
	return -1
}

// Len returns the number of tokens.
func (v *Vocabulary) Len() int { return len(v.index) }

// has reports whether there is a token of this text, written as in the file.
func (v *Vocabulary) has(token string) bool {
	_, ok := v.index[token]
	return ok
}
