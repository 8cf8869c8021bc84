package llama_test

import (
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/go-skynet/go-llama.cpp/llama"
)

func vocabOnly(t testing.TB, name string) *llama.Model {
	t.Helper()
	m, err := llama.LoadModel(data(t, name), llama.ModelParams{VocabOnly: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { closeOrFail(t, m) })
	return m
}

func TestTokenizersGiveTheExpectedTokens(t *testing.T) {
	const separator = "\n__ggml_vocab_test__\n"
	for _, name := range []string{"llama-spm", "gpt-2", "phi-3"} {
		t.Run(name, func(t *testing.T) {
			m := vocabOnly(t, "tokenizers/ggml-vocab-"+name+".gguf")
			inputs := strings.Split(strings.TrimSuffix(read(t, "tokenizers/ggml-vocab-"+name+".gguf.inp"), separator), separator)
			outputs := strings.Split(strings.TrimSuffix(read(t, "tokenizers/ggml-vocab-"+name+".gguf.out"), "\n"), "\n")
			if len(inputs) != len(outputs) {
				t.Fatalf("%d inputs, %d outputs", len(inputs), len(outputs))
			}
			for i, input := range inputs {
				var want []int32
				for _, f := range strings.Fields(outputs[i]) {
					id, err := strconv.Atoi(f)
					if err != nil {
						t.Fatal(err)
					}
					want = append(want, int32(id))
				}
				got, err := m.Vocab().Tokenize(input, false, false)
				if err != nil || !slices.Equal(got, want) {
					t.Errorf("Tokenize(%q) = %v, %v, want %v", input, got, err, want)
				}
				text := ""
				for _, id := range got {
					text += m.Vocab().Piece(id, true)
				}
				if text != input && text != " "+input { // some tokenizers put a space in front
					t.Errorf("the pieces of %v = %q, want %q", got, text, input)
				}
			}
		})
	}
}

func read(t testing.TB, name string) string {
	t.Helper()
	b, err := os.ReadFile(data(t, name))
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func TestSpecialTokens(t *testing.T) {
	v := stories(t).Vocab()
	if v.BOS() != 1 || v.EOS() != 2 || !v.AddBOS() || v.AddEOS() || v.NTokens() != 512 || v.EOT() != -1 || v.PAD() != -1 {
		t.Errorf("BOS %d EOS %d EOT %d PAD %d AddBOS %v AddEOS %v NTokens %d", v.BOS(), v.EOS(), v.EOT(), v.PAD(), v.AddBOS(), v.AddEOS(), v.NTokens())
	}
	if !v.IsEOG(2) || v.IsEOG(300) || !v.IsControl(1) || v.IsControl(300) {
		t.Errorf("IsEOG(2) %v, IsEOG(300) %v, IsControl(1) %v, IsControl(300) %v", v.IsEOG(2), v.IsEOG(300), v.IsControl(1), v.IsControl(300))
	}
	if got := v.Piece(2, true); got != "</s>" {
		t.Errorf("Piece(2, true) = %q, want </s>", got)
	}
	if got := v.Piece(2, false); got != "" {
		t.Errorf("Piece(2, false) = %q, want none", got)
	}
	with, _ := v.Tokenize("a</s>", false, true)
	without, _ := v.Tokenize("a</s>", false, false)
	if with[len(with)-1] != 2 || slices.Contains(without, 2) {
		t.Errorf("Tokenize with parseSpecial = %v, without = %v", with, without)
	}
}

func TestUnknownTokensHaveNoText(t *testing.T) {
	v := stories(t).Vocab()
	for _, id := range []int32{-1, 512, 1 << 30} {
		if v.Piece(id, true) != "" || v.IsEOG(id) || v.IsControl(id) || v.Detokenize([]int32{id}, false, true) != "" {
			t.Errorf("token %d has a text or a kind", id)
		}
	}
}

func TestTokenizeTakesAnyBytes(t *testing.T) {
	for _, name := range []string{"llama-spm", "gpt-2"} {
		v := vocabOnly(t, "tokenizers/ggml-vocab-"+name+".gguf").Vocab()
		for _, text := range []string{"", "a\x00b", "\xff\xfe", "\xf0\x9f", strings.Repeat("ab ", 5000)} {
			if _, err := v.Tokenize(text, true, true); err != nil {
				t.Errorf("%s: Tokenize(%.20q) = %v", name, text, err)
			}
		}
		tokens, err := v.Tokenize("a\x00b", false, false)
		if err != nil || v.Detokenize(tokens, false, false) != "a\x00b" && v.Detokenize(tokens, false, false) != " a\x00b" {
			t.Errorf("%s: a zero byte comes back as %q, %v", name, v.Detokenize(tokens, false, false), err)
		}
	}
}

func TestChatTemplate(t *testing.T) {
	msgs := []llama.ChatMessage{{Role: "system", Content: "Be brief."}, {Role: "user", Content: strings.Repeat("Hi. ", 200)}}
	got, err := llama.ApplyChatTemplate("chatml", msgs, true)
	want := "<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\n" + msgs[1].Content + "<|im_end|>\n<|im_start|>assistant\n"
	if err != nil || got != want {
		t.Errorf("ApplyChatTemplate = %q, %v, want %q", got, err, want)
	}
	if got, err := llama.ApplyChatTemplate("", msgs[:1], false); err != nil || got != "<|im_start|>system\nBe brief.<|im_end|>\n" {
		t.Errorf(`ApplyChatTemplate("") = %q, %v, want ChatML`, got, err)
	}
	if _, err := llama.ApplyChatTemplate("{{ nobody knows this one }}", msgs, true); err == nil {
		t.Error("ApplyChatTemplate of an unknown template = nil, want an error")
	}
	if tmpl, ok := stories(t).ChatTemplate(""); ok {
		t.Errorf("ChatTemplate of a model without one = %q", tmpl)
	}
}
