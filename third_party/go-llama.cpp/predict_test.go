package llama_test

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	llama "github.com/go-skynet/go-llama.cpp"
	"github.com/go-skynet/go-llama.cpp/internal/llamatest"
)

func newLLama(t testing.TB, opts ...llama.ModelOption) *llama.LLama {
	t.Helper()
	l, err := llama.New(llamatest.Model(t), opts...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(l.Free)
	return l
}

// newStories loads a model of children's stories, whose texts begin with BOS, in F32.
func newStories(t *testing.T, opts ...llama.ModelOption) *llama.LLama {
	t.Helper()
	l, err := llama.New(llamatest.Shared(t, "models/stories260K-f32.gguf"), opts...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(l.Free)
	return l
}

// greedy are the options under which a prediction is the reference's.
func greedy(more ...llama.PredictOption) []llama.PredictOption {
	return append([]llama.PredictOption{llama.SetTemperature(0), llama.SetPenalty(1), llama.SetThreads(testThreads), llama.SetTokens(64)}, more...)
}

func predict(t testing.TB, l *llama.LLama, text string, opts ...llama.PredictOption) string {
	t.Helper()
	got, err := l.Predict(text, opts...)
	if err != nil {
		t.Fatal(err)
	}
	return got
}

// prompt is one that the base continues for long without an end and without a tie: of 90 tokens, each is ahead of the next
// likeliest by 0.08 in the logits.
const prompt = "Is it true that"

// A prompt is continued as another program does it: transformers for the demo's base, llama2.c for the stories.
func TestPredictContinuesAsTheReference(t *testing.T) {
	check := func(t *testing.T, l *llama.LLama, prompt, want string) {
		got := predict(t, l, prompt, greedy(llama.SetTokens(256))...)
		if !strings.HasPrefix(got, want) {
			t.Errorf("Predict = %q, want it to begin with %q", got, want)
		}
		if again := predict(t, l, prompt, greedy(llama.SetTokens(256))...); again != got {
			t.Errorf("a second Predict = %q, want the same %q", again, got)
		}
		if got := predict(t, l, prompt, greedy(llama.SetTokens(256), llama.SetBatch(2))...); !strings.HasPrefix(got, want) {
			t.Errorf("with batches of 2: %q, want it to begin with %q", got, want)
		}
	}
	t.Run("base", func(t *testing.T) {
		r := llamatest.ReadReference(t)
		check(t, newLLama(t), r.Prompt, r.Continuation)
	})
	t.Run("stories260K", func(t *testing.T) {
		b, err := os.ReadFile(llamatest.Shared(t, "models/stories260K-greedy-reference.txt"))
		if err != nil {
			t.Fatal(err)
		}
		check(t, newStories(t), "Once upon a time", strings.TrimPrefix(string(b), "Once upon a time"))
	})
}

func TestPredictHonoursTokens(t *testing.T) {
	l := newLLama(t)
	for _, n := range []int{1, 2, 17} {
		calls := 0
		predict(t, l, prompt, greedy(llama.SetTokens(n), llama.SetTokenCallback(func(string) bool { calls++; return true }))...)
		if calls != n {
			t.Errorf("SetTokens(%d) gave %d tokens", n, calls)
		}
	}
}

func TestStopWordsEndThePrediction(t *testing.T) {
	l := newLLama(t)
	for _, tt := range []struct {
		name  string
		stops []string
		want  string
	}{
		{"one word", []string{"apples"}, " has 10 "},
		{"over several tokens", []string{"10 apples. How"}, " has "},
		{"the first of two", []string{"many", "has"}, " "},
		{"begins with the prediction", []string{" has 10"}, ""},
		{"inside a token", []string{"pple"}, " has 10 a"},
		{"none that occurs", []string{"", "Moscow", "Tom has 3"}, " has 10 apples. How many apples does he have?"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got := predict(t, l, llamatest.ReadReference(t).Prompt, greedy(llama.SetStopWords(tt.stops...))...)
			if got != tt.want {
				t.Errorf("Predict = %q, want %q", got, tt.want)
			}
		})
	}
}

func TestTokenCallbackSeesEveryTokenAndStops(t *testing.T) {
	l := newLLama(t)
	var heard strings.Builder
	l.SetTokenCallback(func(token string) bool { heard.WriteString(token); return true })
	if got := predict(t, l, prompt, greedy()...); got != heard.String() {
		t.Errorf("the callback heard %q, Predict = %q", heard.String(), got)
	}
	var tokens []string
	l.SetTokenCallback(func(token string) bool { tokens = append(tokens, token); return len(tokens) < 4 })
	got := predict(t, l, prompt, greedy()...)
	if len(tokens) != 4 || got != strings.Join(tokens[:3], "") {
		t.Errorf("stopped at the 4th token: heard %q, Predict = %q", tokens, got)
	}
	// the option's callback replaces the other one and is gone afterwards
	tokens = nil
	predict(t, l, prompt, greedy(llama.SetTokenCallback(func(string) bool { return true }))...)
	predict(t, l, prompt, greedy()...)
	if tokens != nil {
		t.Errorf("the replaced callback heard %q", tokens)
	}
}

func TestSeedDecides(t *testing.T) {
	l := newLLama(t)
	run := func(seed int, more ...llama.PredictOption) string {
		return predict(t, l, "Once", append([]llama.PredictOption{llama.SetSeed(seed), llama.SetTokens(48), llama.SetTemperature(1.2), llama.SetThreads(testThreads)}, more...)...)
	}
	for _, mirostat := range []int{0, 1, 2} {
		opt := llama.SetMirostat(mirostat)
		if a, b := run(1, opt), run(1, opt); a != b {
			t.Errorf("mirostat %d: seed 1 gave %q and %q", mirostat, a, b)
		}
		if a, b := run(1, opt), run(2, opt); a == b {
			t.Errorf("mirostat %d: seeds 1 and 2 both gave %q", mirostat, a)
		}
	}
	if a, b := run(-1), run(-1); a == b {
		t.Errorf("seed -1 gave %q twice", a)
	}
}

func TestSamplingOptionsReachTheSampler(t *testing.T) {
	l := newLLama(t)
	base := predict(t, l, prompt, greedy()...)
	same := map[string]llama.PredictOption{
		"top-k 1": llama.SetTopK(1), "top-p almost 0": llama.SetTopP(1e-6), "typical": llama.SetTypicalP(1),
		"no effect": llama.SetTailFreeSamplingZ(0.5), "debug": llama.Debug, "rope": llama.SetRopeFreqBase(77),
	}
	for name, opt := range same {
		hot := llama.SetTemperature(1.5)
		if name == "top-k 1" || name == "top-p almost 0" {
			if got := predict(t, l, prompt, greedy(hot, opt)...); got != base {
				t.Errorf("%s at temperature 1.5 = %q, want the greedy %q", name, got, base)
			}
		} else if got := predict(t, l, prompt, greedy(opt)...); got != base {
			t.Errorf("%s = %q, want %q", name, got, base)
		}
	}
	for name, opts := range map[string][]llama.PredictOption{
		"penalty":   {llama.SetPenalty(1.5)},
		"frequency": {llama.SetFrequencyPenalty(1)},
		"presence":  {llama.SetPresencePenalty(1.5)},
		"typical":   {llama.SetTemperature(1.5), llama.SetSeed(3), llama.SetTypicalP(0.2)},
		"guidance":  {llama.SetNegativePrompt("Once upon a time, there was a little girl"), llama.SetNegativePromptScale(3)},
	} {
		if got := predict(t, l, prompt, greedy(opts...)...); got == base {
			t.Errorf("%s changes nothing", name)
		}
	}
}

func TestPenaltySparesTheNewlineUnlessAsked(t *testing.T) {
	l := newLLama(t)
	// a penalty that forbids what was said already leaves only the newline to repeat
	strong := []llama.PredictOption{llama.SetPresencePenalty(1000), llama.SetTokens(200), llama.SetRepeat(-1)}
	count := func(more ...llama.PredictOption) int {
		return strings.Count(predict(t, l, "First\nSecond\nThird\n", greedy(append(strong, more...)...)...), "\n")
	}
	if spared, penalized := count(), count(llama.SetPenalizeNL(true)); penalized != 0 || spared <= penalized {
		t.Errorf("newlines = %d, with SetPenalizeNL %d, want some and none", spared, penalized)
	}
}

func TestLogitBias(t *testing.T) {
	l := newLLama(t)
	first := func(opts ...llama.PredictOption) string {
		return predict(t, l, prompt, greedy(append(opts, llama.SetTokens(1))...)...)
	}
	v := vocabulary(t)
	const id = 403
	if got, want := first(llama.SetLogitBias("403+1000")), v.Piece(id, false); got != want {
		t.Errorf("with a bias for token %d: %q, want %q", id, got, want)
	}
	if got := first(llama.SetLogitBias("403+1000, 403-inf")); got == v.Piece(id, false) {
		t.Errorf("with token %d forbidden: %q", id, got)
	}
	for _, bad := range []string{"x", "403", "+1", "403+", "403+x", "99999+1", "403+nan"} {
		if _, err := l.Predict("Once", greedy(llama.SetLogitBias(bad))...); err == nil {
			t.Errorf("SetLogitBias(%q) was accepted", bad)
		}
	}
}

func TestIgnoreEOS(t *testing.T) {
	l := newLLama(t)
	v := vocabulary(t)
	eos := fmt.Sprintf("%d+1000", v.EOS()) // make the model want to end at once
	if got := predict(t, l, "Once", greedy(llama.SetLogitBias(eos))...); got != "" {
		t.Errorf("Predict after EOS = %q, want none", got)
	}
	calls := 0
	predict(t, l, "Once", greedy(llama.SetLogitBias(eos), llama.IgnoreEOS, llama.SetTokenCallback(func(string) bool { calls++; return true }))...)
	if calls != 64 {
		t.Errorf("with IgnoreEOS %d tokens, want 64", calls)
	}
}

func TestGrammar(t *testing.T) {
	l := newLLama(t)
	for range 3 {
		got := predict(t, l, "Was she happy?", llama.WithGrammar(`root ::= " yes" | " no"`), llama.SetTokens(16), llama.SetThreads(testThreads))
		if got != " yes" && got != " no" {
			t.Errorf("Predict with a grammar = %q", got)
		}
	}
	for _, bad := range []string{"root ::= (", "x ::= \"a\"", "root ::= y"} {
		if _, err := l.Predict("Once", llama.WithGrammar(bad)); err == nil {
			t.Errorf("grammar %q was accepted", bad)
		}
	}
	if _, err := l.Predict("Once", greedy()...); err != nil {
		t.Errorf("Predict after a bad grammar = %v", err)
	}
}

func TestPredictionGoesOnPastTheContext(t *testing.T) {
	l := newLLama(t, llama.SetContext(256))
	calls := 0
	text := predict(t, l, prompt, greedy(llama.SetTokens(700), llama.IgnoreEOS, llama.SetNKeep(4),
		llama.SetTokenCallback(func(string) bool { calls++; return true }))...)
	if calls != 700 || len(text) < 700 {
		t.Errorf("%d tokens, %d bytes, want 700 tokens", calls, len(text))
	}
	r := llamatest.ReadReference(t)
	if got := predict(t, l, r.Prompt, greedy(llama.SetTokens(128))...); got != r.Continuation {
		t.Errorf("the prediction afterwards = %q, want %q", got, r.Continuation)
	}
}

func TestPromptLongerThanTheContextIsAnError(t *testing.T) {
	l := newLLama(t, llama.SetContext(256))
	_, err := l.Predict(strings.Repeat("the cat ", 300), greedy()...)
	if err == nil || !strings.Contains(err.Error(), "the context has room for 252") {
		t.Errorf("Predict = %v, want the tokens and the room", err)
	}
}

func TestEmptyPromptBeginsWithBOS(t *testing.T) {
	if got := predict(t, newLLama(t), "", greedy()...); got == "" {
		t.Error("Predict of nothing is nothing, want a text from its start")
	}
	t.Run("stories260K", func(t *testing.T) {
		if got := predict(t, newStories(t), "", greedy()...); !strings.HasPrefix(got, "Once upon a time") {
			t.Errorf("Predict of nothing = %q, want a story from its start", got)
		}
	})
}

func TestPromptCache(t *testing.T) {
	l := newLLama(t)
	path := filepath.Join(t.TempDir(), "cache.bin")
	want := predict(t, l, prompt, greedy()...)
	if got := predict(t, l, prompt, greedy(llama.SetPathPromptCache(path), llama.EnablePromptCacheRO)...); got != want {
		t.Errorf("with a cache that does not exist = %q, want %q", got, want)
	}
	if _, err := os.Stat(path); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a read-only cache was written: %v", err)
	}
	for range 2 { // written, then read
		if got := predict(t, l, prompt, greedy(llama.SetPathPromptCache(path))...); got != want {
			t.Errorf("with the cache = %q, want %q", got, want)
		}
	}
	other := newLLama(t)
	if got := predict(t, other, prompt, greedy(llama.SetPathPromptCache(path))...); got != want {
		t.Errorf("with the cache of another LLama = %q, want %q", got, want)
	}
	if got, want := predict(t, other, "Once upon a hill", greedy(llama.SetPathPromptCache(path))...), predict(t, other, "Once upon a hill", greedy()...); got != want {
		t.Errorf("a prompt that differs from the cache = %q, want %q", got, want)
	}
	if err := os.WriteFile(path, []byte("not a session"), 0o666); err != nil {
		t.Fatal(err)
	}
	if _, err := l.Predict("Once", greedy(llama.SetPathPromptCache(path))...); err == nil {
		t.Error("a broken cache was accepted")
	}
}

func TestPromptCacheGoesOn(t *testing.T) {
	l := newLLama(t)
	path := filepath.Join(t.TempDir(), "cache.bin")
	all := predict(t, l, prompt, greedy(llama.SetTokens(33))...)
	first := predict(t, l, prompt, greedy(llama.SetTokens(17), llama.SetPathPromptCache(path), llama.EnablePromptCacheAll)...)
	// the last predicted token is not evaluated, so not in the cache: it is predicted again
	second := predict(t, l, "", greedy(llama.SetTokens(17), llama.SetPathPromptCache(path))...)
	if !strings.HasSuffix(all, second) || !strings.HasPrefix(all, first) {
		t.Errorf("%q then %q, want parts of %q", first, second, all)
	}
}

func TestStateRoundTrip(t *testing.T) {
	l := newLLama(t)
	path := filepath.Join(t.TempDir(), "state.bin")
	want := predict(t, l, prompt, greedy()...)
	if err := l.Eval("Once upon a", llama.SetThreads(testThreads)); err != nil {
		t.Fatal(err)
	}
	if err := l.SaveState(path); err != nil {
		t.Fatal(err)
	}
	other := newLLama(t)
	for _, l := range []*llama.LLama{l, other} {
		if err := l.LoadState(path); err != nil {
			t.Fatal(err)
		}
		if got := predict(t, l, prompt, greedy()...); got != want {
			t.Errorf("Predict after LoadState = %q, want %q", got, want)
		}
	}
	if err := l.LoadState(path + ".missing"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("LoadState of a missing file = %v, want fs.ErrNotExist", err)
	}
	whole, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for _, n := range []int{0, 4, 20, len(whole) / 2, len(whole) - 1} {
		if err := os.WriteFile(path, whole[:n], 0o666); err != nil {
			t.Fatal(err)
		}
		if err := l.LoadState(path); err == nil {
			t.Errorf("LoadState of %d of %d bytes = nil, want an error", n, len(whole))
		}
	}
	if err := l.SaveState(filepath.Join(t.TempDir(), "no", "folder")); err == nil {
		t.Error("SaveState into a missing folder = nil, want an error")
	}
	if got := predict(t, l, prompt, greedy()...); got != want {
		t.Errorf("Predict after failed loads = %q, want %q", got, want)
	}
}

func TestSpeculativeSamplingEqualsGreedy(t *testing.T) {
	l, small := newLLama(t), newLLama(t)
	adapted := newLLama(t, llama.SetLoraAdapter(llamatest.WriteAdapter(t, llamatest.AdapterSpec{Alpha: 4}))) // proposes much that is refused
	for _, tokens := range []int{1, 2, 100} {
		want := predict(t, l, prompt, greedy(llama.SetTokens(tokens))...)
		for name, draft := range map[string]*llama.LLama{"the same model": small, "another": adapted} {
			for _, n := range []int{0, 1, 4, 16} {
				got, err := l.SpeculativeSampling(draft, prompt, greedy(llama.SetTokens(tokens), llama.SetNDraft(n))...)
				if err != nil || got != want {
					t.Errorf("draft %s, %d proposals, %d tokens = %q, %v, want %q", name, n, tokens, got, err, want)
				}
			}
		}
	}
	stop := greedy(llama.SetNDraft(8), llama.SetStopWords("used to be used to be"))
	if got, err := l.SpeculativeSampling(small, prompt, stop...); err != nil || got != " can be " {
		t.Errorf("with a stop word = %q, %v", got, err)
	}
	if _, err := l.SpeculativeSampling(l, "Once", greedy()...); err == nil {
		t.Error("SpeculativeSampling with itself = nil, want an error")
	}
}

func TestSpeculativeSamplingGoesOnPastTheContext(t *testing.T) {
	l, draft := newLLama(t, llama.SetContext(256)), newLLama(t, llama.SetContext(256))
	calls := 0
	_, err := l.SpeculativeSampling(draft, prompt, greedy(llama.SetTokens(400), llama.IgnoreEOS, llama.SetNDraft(8),
		llama.SetTokenCallback(func(string) bool { calls++; return true }))...)
	if err != nil || calls != 400 {
		t.Errorf("%d tokens, %v, want 400", calls, err)
	}
}

func TestEmbeddings(t *testing.T) {
	l := newLLama(t, llama.EnableEmbeddings)
	want := predict(t, l, prompt, greedy()...)
	a, err := l.Embeddings("the cat sat")
	if err != nil || len(a) != 256 {
		t.Fatalf("Embeddings = %d numbers, %v, want 256", len(a), err)
	}
	b, err := l.Embeddings("a red ball")
	if err != nil || slices.Equal(a, b) {
		t.Errorf("two texts have the same embedding, or %v", err)
	}
	_, ids, err := l.TokenizeString("the cat sat")
	if err != nil {
		t.Fatal(err)
	}
	var tokens []int
	for _, id := range ids {
		tokens = append(tokens, int(id))
	}
	if c, err := l.TokenEmbeddings(tokens); err != nil || !slices.Equal(a, c) {
		t.Errorf("TokenEmbeddings(%v) differs from Embeddings, or %v", tokens, err)
	}
	if got := predict(t, l, prompt, greedy()...); got != want {
		t.Errorf("Predict after Embeddings = %q, want %q", got, want)
	}
	if _, err := l.TokenEmbeddings([]int{-1}); err == nil {
		t.Error("TokenEmbeddings(-1) = nil, want an error")
	}
	if _, err := newLLama(t).Embeddings("x"); err == nil {
		t.Error("Embeddings without EnableEmbeddings = nil, want an error")
	}
}

// A model whose texts begin with BOS has it in its embeddings, given or not.
func TestTokenEmbeddingsBeginWithBOS(t *testing.T) {
	t.Run("stories260K", func(t *testing.T) {
		l := newStories(t, llama.EnableEmbeddings)
		want, err := l.Embeddings("the cat sat")
		if err != nil {
			t.Fatal(err)
		}
		_, ids, err := l.TokenizeString("the cat sat")
		if err != nil || ids[0] != 1 {
			t.Fatalf("TokenizeString = %v, %v, want 1, BOS, first", ids, err)
		}
		var tokens []int
		for _, id := range ids {
			tokens = append(tokens, int(id))
		}
		for _, tokens := range [][]int{tokens, tokens[1:]} {
			if got, err := l.TokenEmbeddings(tokens); err != nil || !slices.Equal(got, want) {
				t.Errorf("TokenEmbeddings(%v) differs from Embeddings, or %v", tokens, err)
			}
		}
	})
}

func TestTokenizeString(t *testing.T) {
	l := newLLama(t)
	want, err := vocabulary(t).Tokenize("Once upon a time", true, false)
	if err != nil {
		t.Fatal(err)
	}
	n, tokens, err := l.TokenizeString("Once upon a time")
	if err != nil || int(n) != len(tokens) || !slices.Equal(tokens, want) {
		t.Errorf("TokenizeString = %d, %v, %v, want %v", n, tokens, err, want)
	}
	n, tokens, err = l.TokenizeString("Once upon a time", llama.SetTokens(2))
	if err != nil || n <= 2 || len(tokens) != 2 {
		t.Errorf("TokenizeString with room for 2 = %d, %v, %v", n, tokens, err)
	}
}

func TestLoraAdapterChangesThePrediction(t *testing.T) {
	base := predict(t, newLLama(t), prompt, greedy()...)
	path := llamatest.WriteAdapter(t, llamatest.AdapterSpec{Alpha: 8})
	adapted := predict(t, newLLama(t, llama.SetLoraAdapter(path), llama.SetLoraBase("ignored")), prompt, greedy()...)
	if base == adapted {
		t.Error("the adapter changes nothing")
	}
}

func TestModelOptionsReachTheModel(t *testing.T) {
	want := predict(t, newLLama(t), prompt, greedy()...)
	for name, opts := range map[string][]llama.ModelOption{
		"no mmap":   {llama.SetMMap(false)},
		"mlock":     {llama.EnableMLock},
		"no effect": {llama.SetPerplexity(true), llama.SetMulMatQ(false), llama.EnabelLowVRAM, llama.SetModelSeed(5)},
		"batch":     {llama.SetNBatch(3)},
		"gpu":       {llama.SetGPULayers(2), llama.SetTensorSplit("3,1")},
		"train ctx": {llama.SetContext(0)},
	} {
		if got := predict(t, newLLama(t, opts...), prompt, greedy()...); got != want {
			t.Errorf("%s: %q, want %q", name, got, want)
		}
	}
	if got := predict(t, newLLama(t, llama.WithRopeFreqBase(500)), prompt, greedy()...); got == want {
		t.Error("WithRopeFreqBase changes nothing")
	}
	if got := predict(t, newLLama(t, llama.WithRopeFreqScale(0.25)), prompt, greedy()...); got == want {
		t.Error("WithRopeFreqScale changes nothing")
	}
}

func TestWrongModelOptionsAreErrors(t *testing.T) {
	model := llamatest.Model(t)
	for name, opts := range map[string][]llama.ModelOption{
		"main GPU":     {llama.SetMainGPU("x")},
		"tensor split": {llama.SetTensorSplit("1,x")},
		"lora":         {llama.SetLoraAdapter("no/such/file")},
		"not a lora":   {llama.SetLoraAdapter(model)},
		"context":      {llama.SetContext(-1)},
	} {
		if l, err := llama.New(model, opts...); err == nil {
			l.Free()
			t.Errorf("%s: New = nil, want an error", name)
		}
	}
	if l, err := llama.New("not-existing"); l != nil || !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("New of a missing file = %v, %v, want nil, fs.ErrNotExist", l, err)
	}
}

func TestFreedModelGivesErrors(t *testing.T) {
	l := newLLama(t, llama.EnableEmbeddings)
	l.Free()
	l.Free()
	_, predictErr := l.Predict("x")
	_, embedErr := l.Embeddings("x")
	_, _, tokenizeErr := l.TokenizeString("x")
	_, draftErr := newLLama(t).SpeculativeSampling(l, "x")
	for name, err := range map[string]error{"Predict": predictErr, "Embeddings": embedErr, "TokenizeString": tokenizeErr,
		"SpeculativeSampling": draftErr, "Eval": l.Eval("x"), "SaveState": l.SaveState("x"), "LoadState": l.LoadState("x")} {
		if err == nil {
			t.Errorf("%s of a freed model = nil, want an error", name)
		}
	}
}
