//go:build cgo

package newmodel

import (
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"finetune/chat"
	"finetune/gguf"
	"finetune/internal/near"
	"finetune/internal/need"
	"finetune/trainer/data"

	"github.com/go-skynet/go-llama.cpp/llama"
)

// load opens a model in llama.cpp; the test closes it.
func load(t testing.TB, path string, p llama.ModelParams) *llama.Model {
	t.Helper()
	m, err := llama.LoadModel(path, p)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := m.Close(); err != nil {
			t.Error(err)
		}
	})
	return m
}

// loadVocab loads the tokenizer as llama.cpp reads it from a model with it.
func loadVocab(t testing.TB, b *BPE) *llama.Model {
	s := tiny("llama")
	s.Layers, s.Vocabulary = 1, b.Vocabulary()
	return load(t, written(t, s), llama.ModelParams{VocabOnly: true})
}

func tokenize(t testing.TB, v *llama.Vocab, text string) []int32 {
	t.Helper()
	ids, err := v.Tokenize(text, false, false)
	if err != nil {
		t.Fatal(err)
	}
	return ids
}

// textsOf reads all texts of a file.
func textsOf(t testing.TB, path string) (texts []string) {
	t.Helper()
	for text, err := range data.Texts(t.Context(), path) {
		if err != nil {
			t.Fatal(err)
		}
		texts = append(texts, text)
	}
	return texts
}

// sameTokens checks that both make the same tokens of a text, and the text of the tokens.
func sameTokens(t *testing.T, b *BPE, m *llama.Model, what, text string) {
	t.Helper()
	got, want := b.encode(text), tokenize(t, m.Vocab(), text)
	if !slices.Equal(got, want) {
		at := 0
		for at < min(len(got), len(want)) && got[at] == want[at] {
			at++
		}
		t.Errorf("%s: from token %d on, behind %q: %q, llama.cpp has %q", what, at, b.decode(want[max(0, at-5):at]),
			b.decode(got[at:min(at+5, len(got))]), b.decode(want[at:min(at+5, len(want))]))
	}
	if back := m.Vocab().Detokenize(want, false, true); back != text {
		t.Errorf("%s: llama.cpp's tokens give back another text", what)
	}
	if back := b.decode(got); back != text {
		t.Errorf("%s: the tokens give back another text", what)
	}
}

// TestEncodeIsLlamas learns from one half of real texts and compares the tokens of the other.
func TestEncodeIsLlamas(t *testing.T) {
	t.Run("prose, code and records of the repository", func(t *testing.T) {
		var texts []string
		for _, pattern := range []string{"README.md", "docs/*.md", "docs/decisions/*.md", "newmodel/*.go", "gguf/*.go", "adapter/*.go", "convert/*.go", "demo/*.*"} {
			files, err := filepath.Glob(filepath.Join("..", filepath.FromSlash(pattern)))
			if err != nil || len(files) == 0 {
				t.Fatalf("%d files %s, %v", len(files), pattern, err)
			}
			for _, file := range files {
				raw, err := os.ReadFile(file)
				if err != nil {
					t.Fatal(err)
				}
				if utf8.Valid(raw) { // not the model
					texts = append(texts, string(raw))
				}
			}
		}
		checkEncode(t, texts, 300_000)
	})
	t.Run("shared", func(t *testing.T) {
		var texts []string
		for _, name := range []string{"text/tinyshakespeare.txt", "text/wikitext2-valid.txt"} {
			texts = append(texts, textsOf(t, need.Shared(t, name))...)
		}
		for _, name := range []string{"instruct/alpaca_en_demo.json", "instruct/gsm8k-train.jsonl", "instruct/v1_sft_demo.jsonl"} {
			records := textsOf(t, need.Shared(t, name))
			half := len(records) / 2
			texts = append(texts, strings.Join(records[:half], "\n")+"\n"+strings.Join(records[half:], "\n"))
		}
		checkEncode(t, texts, 500_000)
	})
}

// checkEncode learns from the first half of each text and compares the tokens of the second, of least bytes in all.
func checkEncode(t *testing.T, texts []string, least int) {
	t.Helper()
	var learned, heldOut []string
	for _, text := range texts {
		half := strings.LastIndexByte(text[:len(text)/2], '\n') + 1
		learned, heldOut = append(learned, text[:half]), append(heldOut, text[half:])
	}
	b, err := TrainBPE(slices.Values(learned), 1536)
	if err != nil {
		t.Fatal(err)
	}
	m := loadVocab(t, b)
	size := 0
	for i, text := range heldOut {
		size += len(text)
		sameTokens(t, b, m, fmt.Sprintf("held-out text %d", i), text)
	}
	if size < least {
		t.Errorf("%d bytes were compared, want %d or more", size, least)
	}
}

func TestEncodeIsLlamasOnNastyTexts(t *testing.T) {
	b := small()
	m := loadVocab(t, b)
	for _, text := range nasty {
		sameTokens(t, b, m, fmt.Sprintf("%.40q", text), text)
	}
	for _, text := range notUTF8 {
		if got, want := b.encode(text), tokenize(t, m.Vocab(), text); !slices.Equal(got, want) {
			t.Errorf("Encode(%q) = %q, llama.cpp has %q", text, b.decode(got), b.decode(want))
		}
	}
}

// TestEncodeIsLlamasOnRandomTexts joins pieces of what tokenizers get wrong, cut anywhere.
func TestEncodeIsLlamasOnRandomTexts(t *testing.T) {
	b := small()
	v := loadVocab(t, b).Vocab()
	pieces := slices.Concat(nasty[:len(nasty)-1], notUTF8, []string{verse})
	random := rand.New(rand.NewPCG(7, 7))
	refused := 0
	for range 20_000 {
		text := ""
		for range 1 + random.IntN(6) {
			piece := pieces[random.IntN(len(pieces))]
			from := random.IntN(len(piece) + 1)
			text += piece[from : from+random.IntN(min(len(piece)-from, 12)+1)]
			if random.IntN(4) == 0 {
				text += string([]byte{byte(random.IntN(256))})
			}
		}
		want, err := v.Tokenize(text, false, false)
		if err != nil { // it takes no characters beyond Unicode
			refused++
			continue
		}
		if got := b.encode(text); !slices.Equal(got, want) {
			t.Fatalf("Encode(%q) = %q, llama.cpp has %q", text, b.decode(got), b.decode(want))
		}
	}
	if refused > 200 {
		t.Errorf("llama.cpp refused %d texts", refused)
	}
}

// TestEveryByteComesBack: text that is not UTF-8 cannot be read, but it can be written.
func TestEveryByteComesBack(t *testing.T) {
	b := small()
	v := loadVocab(t, b).Vocab()
	random := rand.New(rand.NewPCG(1, 1))
	for i := range 256 {
		if got, want := v.Piece(int32(i), false), string([]byte{byte(i)}); got != want {
			t.Errorf("Piece(%d) = %q, want %q", i, got, want)
		}
		ids := make([]int32, 200)
		for k := range ids {
			ids[k] = int32(random.IntN(b.Len()))
		}
		if got, want := v.Detokenize(ids, false, true), b.decode(ids); got != want {
			t.Fatalf("Detokenize(%v) = %q, want %q", ids, got, want)
		}
	}
}

// probe is a tokenizer that shows the class of a character by what its first byte is joined
// to: a letter to the letter in front, a mark to the mark, white space to the tab, and a
// number to none.
func probe() *BPE {
	var merges []pair
	for _, left := range "a!\t" {
		for first := range int32(256) {
			merges = append(merges, pair{int32(left), first})
		}
	}
	return newBPE(merges)
}

// TestEveryCharacterIsOfLlamasClass compares all of the planes in which characters are
// assigned, and of the others one in 64.
func TestEveryCharacterIsOfLlamasClass(t *testing.T) {
	b := probe()
	m := loadVocab(t, b)
	const block = 1 << 12
	for from := rune(0); from <= utf8.MaxRune; from += block {
		step := rune(1)
		if plane := from >> 16; plane > 3 && plane != 14 {
			step = 64
		}
		var text strings.Builder
		for c := from; c < from+block; c += step {
			if utf8.ValidRune(c) {
				fmt.Fprintf(&text, "0a%c1!%c2\t%c", c, c, c) // digits keep the probes apart
			}
		}
		if text.Len() > 0 {
			sameTokens(t, b, m, fmt.Sprintf("characters from %U on", from), text.String())
		}
	}
}

func TestControlTokens(t *testing.T) {
	b := small()
	v := loadVocab(t, b).Vocab()
	for i, name := range controls {
		id := int32(bytesCount + i)
		ids, err := v.Tokenize("a"+name+"b", false, true)
		if err != nil || !slices.Equal(ids, []int32{'a', id, 'b'}) {
			t.Errorf("Tokenize(a%sb) = %v, %v, want the one token %d in the middle", name, ids, err, id)
		}
		if !v.IsControl(id) || v.Piece(id, true) != name || v.Piece(id, false) != "" {
			t.Errorf("%s is no control token", name)
		}
		if wantEnd := name != "<|im_start|>"; v.IsEOG(id) != wantEnd {
			t.Errorf("IsEOG(%s) = %v", name, !wantEnd)
		}
		if plain := tokenize(t, v, name); slices.Contains(plain, id) {
			t.Errorf("Tokenize(%s) as plain text = %v, want no control token", name, plain)
		}
	}
	if v.BOS() != endOfText || v.EOS() != endOfText || v.PAD() != endOfText || v.EOT() != endOfTurn || v.AddBOS() || v.AddEOS() {
		t.Errorf("BOS %d, EOS %d, PAD %d, EOT %d, AddBOS %v, AddEOS %v", v.BOS(), v.EOS(), v.PAD(), v.EOT(), v.AddBOS(), v.AddEOS())
	}
	if v.NTokens() != b.Len() {
		t.Errorf("%d tokens, want %d", v.NTokens(), b.Len())
	}
}

// TestChatTemplateIsRenderedAlike by our renderer and by llama.cpp's.
func TestChatTemplateIsRenderedAlike(t *testing.T) {
	m := loadVocab(t, small())
	source, ok := m.ChatTemplate("")
	if !ok || source != ChatML {
		t.Fatalf("ChatTemplate = %q, want ChatML", source)
	}
	template, err := chat.ParseTemplate(source, m.Vocab(), time.Time{})
	if err != nil {
		t.Fatal(err)
	}
	for _, chat := range [][]chat.Message{
		{{Role: "user", Content: "Hi"}},
		{{Role: "system", Content: "Be brief.\n"}, {Role: "user", Content: " a "}, {Role: "assistant", Content: "{{ b }}"}, {Role: "user", Content: ""}},
	} {
		var messages []llama.ChatMessage
		for _, turn := range chat {
			messages = append(messages, llama.ChatMessage{Role: turn.Role, Content: turn.Content})
		}
		for _, prompt := range []bool{false, true} {
			want, err := llama.ApplyChatTemplate(source, messages, prompt)
			if err != nil {
				t.Fatal(err)
			}
			got, err := template.Render(chat, nil, prompt)
			if err != nil || got != want {
				t.Errorf("Render(%v, %v) = %q, %v, want %q", chat, prompt, got, err, want)
			}
		}
	}
}

// guessTolerance is how far from ln V the loss of an untrained model may be, in nats: its
// logits are small but not zero.
const guessTolerance = 0.25

// TestLlamaRunsEveryArchitecture at the start of a training: the model guesses.
func TestLlamaRunsEveryArchitecture(t *testing.T) {
	for _, arch := range Architectures() {
		for _, typ := range []gguf.Type{gguf.TypeF32, gguf.TypeF16, gguf.TypeBF16} {
			t.Run(arch+"/"+typ.String(), func(t *testing.T) {
				s := tiny(arch)
				s.Type = typ
				runs(t, s)
			})
		}
	}
}

func TestLlamaRunsOtherShapes(t *testing.T) {
	with := func(change func(*Spec)) Spec {
		s := tiny("llama")
		change(&s)
		return s
	}
	for name, s := range map[string]Spec{
		"untied":        with(func(s *Spec) { s.Tied = false }),
		"1/√n_in":       with(func(s *Spec) { s.InitStd, s.Tied = 0, false }),
		"one layer":     with(func(s *Spec) { s.Layers, s.Heads, s.HeadsKV = 1, 1, 1 }),
		"wide heads":    with(func(s *Spec) { s.Arch, s.HeadDim = "qwen3", 32 }),
		"rotary base":   with(func(s *Spec) { s.RopeBase, s.Epsilon = 1e6, 1e-6 }),
		"bytes only":    with(func(s *Spec) { s.Vocabulary = newBPE(nil).Vocabulary() }),
		"rows of no 32": with(func(s *Spec) { s.Embd, s.FF = 48, 72 }),
	} {
		t.Run(name, func(t *testing.T) { runs(t, s) })
	}
}

// runs checks that llama.cpp loads the model as specified and that it guesses.
func runs(t *testing.T, s Spec) {
	m := load(t, written(t, s), llama.ModelParams{CheckTensors: true})
	if m.Arch() != s.Arch || m.NLayer() != s.Layers || m.NEmbd() != s.Embd || m.NHead() != s.Heads ||
		m.NHeadKV() != s.HeadsKV || m.NCtxTrain() != s.Ctx || m.Vocab().NTokens() != s.Vocabulary.Len() {
		t.Errorf("llama.cpp sees %s, %d layers, %d wide, %d/%d heads, context %d, %d tokens; want %+v",
			m.Arch(), m.NLayer(), m.NEmbd(), m.NHead(), m.NHeadKV(), m.NCtxTrain(), m.Vocab().NTokens(), s)
	}
	c, err := llama.NewContext(m, llama.ContextParams{NCtx: 64, Threads: 1})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	tokens := tokenize(t, m.Vocab(), verse)[:60]
	output := slices.Repeat([]bool{true}, len(tokens))
	if err := c.Decode(llama.Batch{Tokens: tokens, Output: output}); err != nil {
		t.Fatal(err)
	}
	loss := 0.0
	for i := range len(tokens) - 1 {
		logits, sum := c.Logits(i), 0.0
		for _, l := range logits {
			sum += math.Exp(float64(l))
		}
		loss += (math.Log(sum) - float64(logits[tokens[i+1]])) / float64(len(tokens)-1)
	}
	tolerance := guessTolerance
	if s.InitStd == 0 {
		tolerance = 1 // logits of order one
	}
	if guess := math.Log(float64(s.Vocabulary.Len())); !near.Enough(loss, guess, tolerance) {
		t.Errorf("the loss is %v, want about %v", loss, guess)
	}
}

// TestVocabularyOfAnotherModel: a tokenizer of any kind goes into any architecture.
func TestVocabularyOfAnotherModel(t *testing.T) {
	shared := []string{"tokenizers/ggml-vocab-llama-spm.gguf", "tokenizers/ggml-vocab-gpt-2.gguf"}
	need.Each(t, []string{"demo/base.gguf"}, shared, sameVocabulary)
	t.Run("SentencePiece", func(t *testing.T) { sameVocabulary(t, sentencePiece(t)) })
}

// sentencePiece writes a tokenizer like that of Llama 2 and nothing else: a token for each byte, some characters, and
// pieces of them.
func sentencePiece(t *testing.T) string {
	t.Helper()
	tokens, kinds, scores := []string{"<unk>", "<s>", "</s>"}, []int32{TokenUnknown, TokenControl, TokenControl}, []float32{0, 0, 0}
	for i := range 256 {
		tokens, kinds, scores = append(tokens, fmt.Sprintf("<0x%02X>", i)), append(kinds, TokenByte), append(scores, 0)
	}
	for i, piece := range strings.Fields("▁ t h e a n d ä 1 ▁t ▁th he ▁the an ▁an ▁and") {
		tokens, kinds, scores = append(tokens, piece), append(kinds, TokenNormal), append(scores, -float32(i))
	}
	b := gguf.NewBuilder()
	b.Set("general.architecture", "llama")
	b.Set("tokenizer.ggml.model", "llama")
	b.Set("tokenizer.ggml.tokens", tokens)
	b.Set("tokenizer.ggml.token_type", kinds)
	b.Set("tokenizer.ggml.scores", scores)
	b.Set("tokenizer.ggml.bos_token_id", uint32(1))
	b.Set("tokenizer.ggml.eos_token_id", uint32(2))
	b.Set("tokenizer.ggml.unknown_token_id", uint32(0))
	path := filepath.Join(t.TempDir(), "vocab.gguf")
	if err := b.WriteFile(path); err != nil {
		t.Fatal(err)
	}
	return path
}

// sameVocabulary puts a model's vocabulary into another one and compares the tokens.
func sameVocabulary(t *testing.T, path string) {
	vocabulary, err := ReadVocabulary(path)
	if err != nil {
		t.Fatal(err)
	}
	s := tiny("gpt2")
	s.Vocabulary = vocabulary
	made := load(t, written(t, s), llama.ModelParams{})
	source := load(t, path, llama.ModelParams{VocabOnly: true})
	for _, text := range nasty {
		if got, want := tokenize(t, made.Vocab(), text), tokenize(t, source.Vocab(), text); !slices.Equal(got, want) {
			t.Errorf("Tokenize(%.40q) = %v, want %v", text, got, want)
		}
	}
}
