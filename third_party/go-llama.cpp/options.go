package llama

// ModelOptions are the options of New. They are set by ModelOption functions on a copy of DefaultModelOptions.
type ModelOptions struct {
	ContextSize   int // tokens; 0: what the model was trained with
	Seed          int // no effect: every prediction has its own seed, see SetSeed
	NBatch        int // most tokens evaluated at once
	F16Memory     bool
	MLock         bool
	MMap          bool
	LowVRAM       bool
	Embeddings    bool
	NUMA          bool
	NGPULayers    int
	MainGPU       string
	TensorSplit   string
	FreqRopeBase  float32
	FreqRopeScale float32
	MulMatQ       *bool
	LoraBase      string
	LoraAdapter   string
	Perplexity    bool
}

// PredictOptions are the options of a prediction. They are set by PredictOption functions on a copy of DefaultOptions.
type PredictOptions struct {
	Seed, Threads, Tokens, TopK, Repeat, Batch, NKeep int
	TopP, Temperature, Penalty                        float32
	NDraft                                            int
	F16KV                                             bool
	DebugMode                                         bool
	StopPrompts                                       []string
	IgnoreEOS                                         bool

	TailFreeSamplingZ float32
	TypicalP          float32
	FrequencyPenalty  float32
	PresencePenalty   float32
	Mirostat          int
	MirostatETA       float32
	MirostatTAU       float32
	PenalizeNL        bool
	LogitBias         string
	TokenCallback     func(string) bool

	PathPromptCache             string
	MLock, MMap, PromptCacheAll bool
	PromptCacheRO               bool
	Grammar                     string
	MainGPU                     string
	TensorSplit                 string

	RopeFreqBase  float32
	RopeFreqScale float32

	NegativePromptScale float32
	NegativePrompt      string
}

// PredictOption sets an option of a prediction.
type PredictOption func(p *PredictOptions)

// ModelOption sets an option of New.
type ModelOption func(p *ModelOptions)

// The RoPE values that stand for the model's own: a program cannot be told apart that asks for them from one that says
// nothing.
const (
	defaultRopeFreqBase  = 10000
	defaultRopeFreqScale = 1
)

// DefaultModelOptions are the options of New before any is set.
var DefaultModelOptions = ModelOptions{
	ContextSize:   512,
	MMap:          true,
	NBatch:        512,
	FreqRopeBase:  defaultRopeFreqBase,
	FreqRopeScale: defaultRopeFreqScale,
}

// DefaultOptions are the options of a prediction before any is set.
var DefaultOptions = PredictOptions{
	Seed:              -1,
	Threads:           4,
	Tokens:            128,
	Penalty:           1.1,
	Repeat:            64,
	Batch:             512,
	NKeep:             64,
	TopK:              40,
	TopP:              0.95,
	TailFreeSamplingZ: 1.0,
	TypicalP:          1.0,
	Temperature:       0.8,
	MirostatTAU:       5.0,
	MirostatETA:       0.1,
	MMap:              true,
	RopeFreqBase:      defaultRopeFreqBase,
	RopeFreqScale:     defaultRopeFreqScale,
}

// NewModelOptions returns DefaultModelOptions with opts applied.
func NewModelOptions(opts ...ModelOption) ModelOptions {
	p := DefaultModelOptions
	for _, opt := range opts {
		opt(&p)
	}
	return p
}

// NewPredictOptions returns DefaultOptions with opts applied.
func NewPredictOptions(opts ...PredictOption) PredictOptions {
	p := DefaultOptions
	for _, opt := range opts {
		opt(&p)
	}
	return p
}
