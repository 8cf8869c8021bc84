package llama

// SetContext sets the context size in tokens.
func SetContext(c int) ModelOption { return func(p *ModelOptions) { p.ContextSize = c } }

// SetNBatch sets how many tokens are evaluated at once at most.
func SetNBatch(n int) ModelOption { return func(p *ModelOptions) { p.NBatch = n } }

// SetModelSeed has no effect: every prediction has its own seed, see SetSeed.
func SetModelSeed(c int) ModelOption { return func(p *ModelOptions) { p.Seed = c } }

// SetMMap sets whether the model is mapped from its file or read into memory.
func SetMMap(b bool) ModelOption { return func(p *ModelOptions) { p.MMap = b } }

// EnableMLock keeps the model from being swapped out.
var EnableMLock ModelOption = func(p *ModelOptions) { p.MLock = true }

// EnableNUMA spreads the work over NUMA nodes. It holds for the whole process once set.
var EnableNUMA ModelOption = func(p *ModelOptions) { p.NUMA = true }

// SetGPULayers sets how many layers are kept on an accelerator, if the build has one.
func SetGPULayers(n int) ModelOption { return func(p *ModelOptions) { p.NGPULayers = n } }

// SetMainGPU sets the number of the main accelerator.
func SetMainGPU(maingpu string) ModelOption { return func(p *ModelOptions) { p.MainGPU = maingpu } }

// SetTensorSplit sets the proportions of the model for each accelerator, separated by "," or "/".
func SetTensorSplit(maingpu string) ModelOption {
	return func(p *ModelOptions) { p.TensorSplit = maingpu }
}

// SetLoraAdapter sets the path of a GGUF LoRA adapter, which is applied while computing.
func SetLoraAdapter(s string) ModelOption { return func(p *ModelOptions) { p.LoraAdapter = s } }

// SetLoraBase has no effect: the adapter is added while computing, at full precision, and needs no base in a finer type.
func SetLoraBase(s string) ModelOption { return func(p *ModelOptions) { p.LoraBase = s } }

// EnableEmbeddings makes LLama.Embeddings and LLama.TokenEmbeddings available.
var EnableEmbeddings ModelOption = func(p *ModelOptions) { p.Embeddings = true }

// EnableF16Memory keeps keys and values in F16 instead of F32: half the memory, and flash attention where possible.
var EnableF16Memory ModelOption = func(p *ModelOptions) { p.F16Memory = true }

// WithRopeFreqBase sets the base frequency of RoPE. 0 and 10000, the default, mean the model's own.
func WithRopeFreqBase(f float32) ModelOption { return func(p *ModelOptions) { p.FreqRopeBase = f } }

// WithRopeFreqScale sets the frequency scale of RoPE. 0 and 1, the default, mean the model's own.
func WithRopeFreqScale(f float32) ModelOption { return func(p *ModelOptions) { p.FreqRopeScale = f } }

// SetPerplexity has no effect: logits of any token are available without it.
func SetPerplexity(b bool) ModelOption { return func(p *ModelOptions) { p.Perplexity = b } }

// SetMulMatQ has no effect: llama.cpp chooses its kernels itself.
func SetMulMatQ(b bool) ModelOption { return func(p *ModelOptions) { p.MulMatQ = &b } }

// EnabelLowVRAM has no effect: llama.cpp has no such mode any more.
var EnabelLowVRAM ModelOption = func(p *ModelOptions) { p.LowVRAM = true }
