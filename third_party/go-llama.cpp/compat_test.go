package llama_test

import (
	"testing"

	llama "github.com/go-skynet/go-llama.cpp"
)

// Every exported name of go-skynet/go-llama.cpp v0.0.0-20240314183750-6a8041ef6b46 with its type. That this compiles is
// the test: a program written for that version keeps compiling.
var (
	_ func(string, ...llama.ModelOption) (*llama.LLama, error) = llama.New

	_ func(*llama.LLama)                                                               = (*llama.LLama).Free
	_ func(*llama.LLama, string) error                                                 = (*llama.LLama).LoadState
	_ func(*llama.LLama, string) error                                                 = (*llama.LLama).SaveState
	_ func(*llama.LLama, []int, ...llama.PredictOption) ([]float32, error)             = (*llama.LLama).TokenEmbeddings
	_ func(*llama.LLama, string, ...llama.PredictOption) ([]float32, error)            = (*llama.LLama).Embeddings
	_ func(*llama.LLama, string, ...llama.PredictOption) error                         = (*llama.LLama).Eval
	_ func(*llama.LLama, *llama.LLama, string, ...llama.PredictOption) (string, error) = (*llama.LLama).SpeculativeSampling
	_ func(*llama.LLama, string, ...llama.PredictOption) (string, error)               = (*llama.LLama).Predict
	_ func(*llama.LLama, string, ...llama.PredictOption) (int32, []int32, error)       = (*llama.LLama).TokenizeString
	_ func(*llama.LLama, func(string) bool)                                            = (*llama.LLama).SetTokenCallback
	_ func(...llama.ModelOption) llama.ModelOptions                                    = llama.NewModelOptions
	_ func(...llama.PredictOption) llama.PredictOptions                                = llama.NewPredictOptions
	_ func(*llama.ModelOptions)                                                        = llama.ModelOption(nil)
	_ func(*llama.PredictOptions)                                                      = llama.PredictOption(nil)
	_ *llama.ModelOptions                                                              = &llama.DefaultModelOptions
	_ *llama.PredictOptions                                                            = &llama.DefaultOptions
	_ []llama.ModelOption                                                              = []llama.ModelOption{
		llama.EnabelLowVRAM, llama.EnableNUMA, llama.EnableEmbeddings, llama.EnableF16Memory, llama.EnableMLock,
	}
	_ []llama.PredictOption = []llama.PredictOption{
		llama.EnableF16KV, llama.Debug, llama.EnablePromptCacheAll, llama.EnablePromptCacheRO, llama.IgnoreEOS,
	}

	_ = []func(bool) llama.ModelOption{llama.SetMulMatQ, llama.SetMMap, llama.SetPerplexity}
	_ = []func(string) llama.ModelOption{llama.SetLoraBase, llama.SetLoraAdapter, llama.SetTensorSplit, llama.SetMainGPU}
	_ = []func(int) llama.ModelOption{llama.SetContext, llama.SetModelSeed, llama.SetNBatch, llama.SetGPULayers}
	_ = []func(float32) llama.ModelOption{llama.WithRopeFreqBase, llama.WithRopeFreqScale}

	_ = []func(bool) llama.PredictOption{llama.SetMlock, llama.SetMemoryMap, llama.SetPenalizeNL}
	_ = []func(string) llama.PredictOption{
		llama.SetPredictionTensorSplit, llama.SetPredictionMainGPU, llama.SetNegativePrompt, llama.WithGrammar,
		llama.SetPathPromptCache, llama.SetLogitBias,
	}
	_ = []func(int) llama.PredictOption{
		llama.SetNDraft, llama.SetSeed, llama.SetThreads, llama.SetTokens, llama.SetTopK, llama.SetRepeat, llama.SetBatch,
		llama.SetNKeep, llama.SetMirostat,
	}
	_ = []func(float32) llama.PredictOption{
		llama.SetRopeFreqBase, llama.SetRopeFreqScale, llama.SetNegativePromptScale, llama.SetTopP, llama.SetTemperature,
		llama.SetPenalty, llama.SetTailFreeSamplingZ, llama.SetTypicalP, llama.SetFrequencyPenalty, llama.SetPresencePenalty,
		llama.SetMirostatETA, llama.SetMirostatTAU,
	}
	_ func(func(string) bool) llama.PredictOption = llama.SetTokenCallback
	_ func(...string) llama.PredictOption         = llama.SetStopWords

	_ = llama.ModelOptions{
		ContextSize: 0, Seed: 0, NBatch: 0, F16Memory: false, MLock: false, MMap: false, LowVRAM: false, Embeddings: false,
		NUMA: false, NGPULayers: 0, MainGPU: "", TensorSplit: "", FreqRopeBase: float32(0), FreqRopeScale: float32(0),
		MulMatQ: (*bool)(nil), LoraBase: "", LoraAdapter: "", Perplexity: false,
	}
	_ = llama.PredictOptions{
		Seed: 0, Threads: 0, Tokens: 0, TopK: 0, Repeat: 0, Batch: 0, NKeep: 0, TopP: float32(0), Temperature: float32(0),
		Penalty: float32(0), NDraft: 0, F16KV: false, DebugMode: false, StopPrompts: []string(nil), IgnoreEOS: false,
		TailFreeSamplingZ: float32(0), TypicalP: float32(0), FrequencyPenalty: float32(0), PresencePenalty: float32(0),
		Mirostat: 0, MirostatETA: float32(0), MirostatTAU: float32(0), PenalizeNL: false, LogitBias: "",
		TokenCallback: (func(string) bool)(nil), PathPromptCache: "", MLock: false, MMap: false, PromptCacheAll: false,
		PromptCacheRO: false, Grammar: "", MainGPU: "", TensorSplit: "", RopeFreqBase: float32(0),
		RopeFreqScale: float32(0), NegativePromptScale: float32(0), NegativePrompt: "",
	}
)

func TestDefaultsAreUpstreams(t *testing.T) {
	m := llama.NewModelOptions()
	if m.ContextSize != 512 || m.NBatch != 512 || !m.MMap || m.F16Memory || m.FreqRopeBase != 10000 || m.FreqRopeScale != 1 {
		t.Errorf("model defaults = %+v", m)
	}
	p := llama.NewPredictOptions()
	ints := [...]int{p.Seed, p.Threads, p.Tokens, p.Repeat, p.Batch, p.NKeep, p.TopK, p.Mirostat, p.NDraft}
	if want := [...]int{-1, 4, 128, 64, 512, 64, 40, 0, 0}; ints != want {
		t.Errorf("seed, threads, tokens, repeat, batch, keep, top-k, mirostat, draft = %v, want %v", ints, want)
	}
	floats := [...]float32{p.Penalty, p.TopP, p.TailFreeSamplingZ, p.TypicalP, p.Temperature, p.MirostatTAU, p.MirostatETA, p.RopeFreqBase, p.RopeFreqScale}
	if want := [...]float32{1.1, 0.95, 1, 1, 0.8, 5, 0.1, 10000, 1}; floats != want {
		t.Errorf("penalty, top-p, tfs-z, typical, temperature, tau, eta, rope base, rope scale = %v, want %v", floats, want)
	}
}

func TestOptionsSetTheirField(t *testing.T) {
	m := llama.NewModelOptions(llama.SetContext(7), llama.SetNBatch(8), llama.SetModelSeed(9), llama.SetMMap(false), llama.EnableMLock,
		llama.EnableNUMA, llama.SetGPULayers(3), llama.SetMainGPU("1"), llama.SetTensorSplit("3,1"), llama.SetLoraAdapter("a"),
		llama.SetLoraBase("b"), llama.EnableEmbeddings, llama.EnableF16Memory, llama.WithRopeFreqBase(2), llama.WithRopeFreqScale(3),
		llama.SetPerplexity(true), llama.SetMulMatQ(true), llama.EnabelLowVRAM)
	if m.MulMatQ == nil || !*m.MulMatQ {
		t.Error("SetMulMatQ(true) is not set")
	}
	m.MulMatQ = nil
	want := llama.ModelOptions{ContextSize: 7, NBatch: 8, Seed: 9, MLock: true, NUMA: true, NGPULayers: 3, MainGPU: "1", TensorSplit: "3,1",
		LoraAdapter: "a", LoraBase: "b", Embeddings: true, F16Memory: true, FreqRopeBase: 2, FreqRopeScale: 3, Perplexity: true, LowVRAM: true}
	if m != want {
		t.Errorf("model options = %+v, want %+v", m, want)
	}
	p := llama.NewPredictOptions(llama.SetTokens(1), llama.SetSeed(2), llama.SetThreads(3), llama.SetTopK(4), llama.SetRepeat(5),
		llama.SetBatch(6), llama.SetNKeep(7), llama.SetNDraft(8), llama.SetMirostat(2))
	if got, want := [...]int{p.Tokens, p.Seed, p.Threads, p.TopK, p.Repeat, p.Batch, p.NKeep, p.NDraft, p.Mirostat}, [...]int{1, 2, 3, 4, 5, 6, 7, 8, 2}; got != want {
		t.Errorf("integers = %v, want %v", got, want)
	}
	p = llama.NewPredictOptions(llama.SetTopP(1), llama.SetTemperature(2), llama.SetPenalty(3), llama.SetTailFreeSamplingZ(4),
		llama.SetTypicalP(5), llama.SetFrequencyPenalty(6), llama.SetPresencePenalty(7), llama.SetMirostatETA(8), llama.SetMirostatTAU(9),
		llama.SetRopeFreqBase(10), llama.SetRopeFreqScale(11), llama.SetNegativePromptScale(12))
	floats := [...]float32{p.TopP, p.Temperature, p.Penalty, p.TailFreeSamplingZ, p.TypicalP, p.FrequencyPenalty, p.PresencePenalty,
		p.MirostatETA, p.MirostatTAU, p.RopeFreqBase, p.RopeFreqScale, p.NegativePromptScale}
	if want := [...]float32{1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12}; floats != want {
		t.Errorf("floats = %v, want %v", floats, want)
	}
	p = llama.NewPredictOptions(llama.SetLogitBias("a"), llama.SetPathPromptCache("b"), llama.WithGrammar("c"), llama.SetPredictionMainGPU("d"),
		llama.SetPredictionTensorSplit("e"), llama.SetNegativePrompt("f"), llama.SetStopWords("g", "h"))
	strings := [...]string{p.LogitBias, p.PathPromptCache, p.Grammar, p.MainGPU, p.TensorSplit, p.NegativePrompt, p.StopPrompts[0], p.StopPrompts[1]}
	if want := [...]string{"a", "b", "c", "d", "e", "f", "g", "h"}; strings != want {
		t.Errorf("strings = %q, want %q", strings, want)
	}
	p = llama.NewPredictOptions(llama.EnableF16KV, llama.Debug, llama.EnablePromptCacheAll, llama.EnablePromptCacheRO, llama.IgnoreEOS,
		llama.SetMlock(true), llama.SetMemoryMap(false), llama.SetPenalizeNL(true))
	if !p.F16KV || !p.DebugMode || !p.PromptCacheAll || !p.PromptCacheRO || !p.IgnoreEOS || !p.MLock || p.MMap || !p.PenalizeNL {
		t.Errorf("switches = %+v", p)
	}
}
