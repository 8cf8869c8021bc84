package llama_test

import (
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/go-skynet/go-llama.cpp/internal/llamatest"
	"github.com/go-skynet/go-llama.cpp/llama"
)

func vocabOnly(t testing.TB, path string) *llama.Model {
	t.Helper()
	m, err := llama.LoadModel(path, llama.ModelParams{VocabOnly: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { closeOrFail(t, m) })
	return m
}

// Hugging Face's tokenizers make the same tokens of the base's byte-level BPE.
func TestTokensAreHuggingFaces(t *testing.T) {
	v := small(t).Vocab()
	r := llamatest.ReadReference(t)
	if len(r.Tokens) < 10 {
		t.Fatalf("%d texts, want 10 or more", len(r.Tokens))
	}
	for _, want := range r.Tokens {
		checkTokens(t, v, want.Text, want.IDs)
	}
}

// llama.cpp's own vocabularies have texts with tokens beside them.
func TestTokenizersGiveTheExpectedTokens(t *testing.T) {
	const separator = "\n__ggml_vocab_test__\n"
	for _, name := range []string{"llama-spm", "gpt-2", "phi-3"} {
		t.Run(name, func(t *testing.T) {
			m := vocabOnly(t, llamatest.Shared(t, "tokenizers/ggml-vocab-"+name+".gguf"))
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
				checkTokens(t, m.Vocab(), input, want)
			}
		})
	}
}

// checkTokens compares the tokens of a text, and the text of the tokens.
func checkTokens(t *testing.T, v *llama.Vocab, input string, want []int32) {
	t.Helper()
	got, err := v.Tokenize(input, false, false)
	if err != nil || !slices.Equal(got, want) {
		t.Errorf("Tokenize(%q) = %v, %v, want %v", input, got, err, want)
	}
	text := ""
	for _, id := range got {
		text += v.Piece(id, true)
	}
	if text != input && text != " "+input { // some tokenizers put a space in front
		t.Errorf("the pieces of %v = %q, want %q", got, text, input)
	}
}

func read(t testing.TB, name string) string {
	t.Helper()
	b, err := os.ReadFile(llamatest.Shared(t, name))
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func TestSpecialTokens(t *testing.T) {
	v := small(t).Vocab()
	if v.BOS() != 256 || v.EOS() != 256 || v.AddBOS() || v.AddEOS() || v.NTokens() != 1536 || v.EOT() != 258 || v.PAD() != 256 {
		t.Errorf("BOS %d EOS %d EOT %d PAD %d AddBOS %v AddEOS %v NTokens %d", v.BOS(), v.EOS(), v.EOT(), v.PAD(), v.AddBOS(), v.AddEOS(), v.NTokens())
	}
	if !v.IsEOG(258) || v.IsEOG(300) || !v.IsControl(257) || v.IsControl(300) {
		t.Errorf("IsEOG(258) %v, IsEOG(300) %v, IsControl(257) %v, IsControl(300) %v", v.IsEOG(258), v.IsEOG(300), v.IsControl(257), v.IsControl(300))
	}
	if got := v.Piece(258, true); got != "<|im_end|>" {
		t.Errorf("Piece(258, true) = %q, want <|im_end|>", got)
	}
	if got := v.Piece(258, false); got != "" {
		t.Errorf("Piece(258, false) = %q, want none", got)
	}
	with, _ := v.Tokenize("a<|im_end|>", false, true)
	without, _ := v.Tokenize("a<|im_end|>", false, false)
	if with[len(with)-1] != 258 || slices.Contains(without, 258) {
		t.Errorf("Tokenize with parseSpecial = %v, without = %v", with, without)
	}
}

func TestUnknownTokensHaveNoText(t *testing.T) {
	v := small(t).Vocab()
	for _, id := range []int32{-1, 1536, 1 << 30} {
		if v.Piece(id, true) != "" || v.IsEOG(id) || v.IsControl(id) || v.Detokenize([]int32{id}, false, true) != "" {
			t.Errorf("token %d has a text or a kind", id)
		}
	}
}

func TestTokenizeTakesAnyBytes(t *testing.T) {
	check := func(t *testing.T, v *llama.Vocab) {
		for _, text := range []string{"", "a\x00b", "\xff\xfe", "\xf0\x9f", strings.Repeat("ab ", 5000)} {
			if _, err := v.Tokenize(text, true, true); err != nil {
				t.Errorf("Tokenize(%.20q) = %v", text, err)
			}
		}
		tokens, err := v.Tokenize("a\x00b", false, false)
		if err != nil || v.Detokenize(tokens, false, false) != "a\x00b" && v.Detokenize(tokens, false, false) != " a\x00b" {
			t.Errorf("a zero byte comes back as %q, %v", v.Detokenize(tokens, false, false), err)
		}
	}
	t.Run("base", func(t *testing.T) { check(t, small(t).Vocab()) })
	for _, name := range []string{"llama-spm", "gpt-2"} {
		t.Run(name, func(t *testing.T) {
			check(t, vocabOnly(t, llamatest.Shared(t, "tokenizers/ggml-vocab-"+name+".gguf")).Vocab())
		})
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
	tmpl, ok := small(t).ChatTemplate("")
	if !ok {
		t.Fatal("no ChatTemplate in the base, which has one")
	}
	if own, err := llama.ApplyChatTemplate(tmpl, msgs, true); err != nil || own != want {
		t.Errorf("ApplyChatTemplate of the base's own = %q, %v, want %q", own, err, want)
	}
	if tmpl, ok := small(t).ChatTemplate("tool_use"); ok {
		t.Errorf("ChatTemplate of a name that the base does not have = %q", tmpl)
	}
}
