package llama

// SetTokens sets how many tokens are predicted at most. 0 means until the model ends the text.
func SetTokens(tokens int) PredictOption { return func(p *PredictOptions) { p.Tokens = tokens } }

// SetThreads sets the number of threads. More than there are CPUs count as that many: they would only wait for each other.
func SetThreads(threads int) PredictOption { return func(p *PredictOptions) { p.Threads = threads } }

// SetBatch sets how many tokens of the prompt are evaluated at once, within the limit of SetNBatch.
func SetBatch(size int) PredictOption { return func(p *PredictOptions) { p.Batch = size } }

// SetSeed sets the seed of the random choice; -1 is a new one each time.
func SetSeed(seed int) PredictOption { return func(p *PredictOptions) { p.Seed = seed } }

// SetTemperature sets the temperature; 0 always takes the most likely token.
func SetTemperature(temp float32) PredictOption {
	return func(p *PredictOptions) { p.Temperature = temp }
}

// SetTopK sets among how many of the most likely tokens is chosen; 0: all.
func SetTopK(topk int) PredictOption { return func(p *PredictOptions) { p.TopK = topk } }

// SetTopP sets the summed probability of the most likely tokens among which is chosen; 1: all.
func SetTopP(topp float32) PredictOption { return func(p *PredictOptions) { p.TopP = topp } }

// SetTypicalP sets the parameter p of locally typical sampling; 1: off.
func SetTypicalP(tp float32) PredictOption { return func(p *PredictOptions) { p.TypicalP = tp } }

// SetTailFreeSamplingZ has no effect: llama.cpp has no tail-free sampling any more.
func SetTailFreeSamplingZ(tfz float32) PredictOption {
	return func(p *PredictOptions) { p.TailFreeSamplingZ = tfz }
}

// SetMirostat chooses Mirostat 1 or 2 in place of top-k, top-p and typical sampling; 0: off.
func SetMirostat(m int) PredictOption { return func(p *PredictOptions) { p.Mirostat = m } }

// SetMirostatETA sets Mirostat's learning rate.
func SetMirostatETA(me float32) PredictOption { return func(p *PredictOptions) { p.MirostatETA = me } }

// SetMirostatTAU sets the surprise that Mirostat aims at.
func SetMirostatTAU(mt float32) PredictOption { return func(p *PredictOptions) { p.MirostatTAU = mt } }

// SetPenalty sets the factor by which the logit of a token already in the text is lowered; 1: off.
func SetPenalty(penalty float32) PredictOption {
	return func(p *PredictOptions) { p.Penalty = penalty }
}

// SetRepeat sets how many tokens the penalties look back on: 0: none, -1: the whole context.
func SetRepeat(repeat int) PredictOption { return func(p *PredictOptions) { p.Repeat = repeat } }

// SetFrequencyPenalty sets what the logit of a token is lowered by for each time it is in the text.
func SetFrequencyPenalty(fp float32) PredictOption {
	return func(p *PredictOptions) { p.FrequencyPenalty = fp }
}

// SetPresencePenalty sets what the logit of a token is lowered by once when it is in the text.
func SetPresencePenalty(pp float32) PredictOption {
	return func(p *PredictOptions) { p.PresencePenalty = pp }
}

// SetPenalizeNL sets whether the penalties hold for the newline too.
func SetPenalizeNL(pnl bool) PredictOption { return func(p *PredictOptions) { p.PenalizeNL = pnl } }

// SetLogitBias adds to the logit of tokens: "15043+1.5" or "15043-inf", several separated by commas.
func SetLogitBias(lb string) PredictOption { return func(p *PredictOptions) { p.LogitBias = lb } }

// WithGrammar sets a GBNF grammar that the predicted text follows from its rule root.
func WithGrammar(s string) PredictOption { return func(p *PredictOptions) { p.Grammar = s } }

// IgnoreEOS forbids the tokens that end a text.
var IgnoreEOS PredictOption = func(p *PredictOptions) { p.IgnoreEOS = true }

// SetStopWords sets texts that end the prediction. They may be spread over several tokens and are not part of the result.
func SetStopWords(stop ...string) PredictOption {
	return func(p *PredictOptions) { p.StopPrompts = stop }
}

// SetTokenCallback sets a callback for the one prediction, see LLama.SetTokenCallback.
func SetTokenCallback(fn func(string) bool) PredictOption {
	return func(p *PredictOptions) { p.TokenCallback = fn }
}

// SetNKeep sets how many tokens at the start of the prompt stay when the context is full and the older half of the rest
// is dropped; below 0: the whole prompt.
func SetNKeep(n int) PredictOption { return func(p *PredictOptions) { p.NKeep = n } }

// SetPathPromptCache sets a file that keeps the evaluated prompt. The part of the prompt that it holds already is not
// evaluated again. An empty prompt goes on where the file ends.
func SetPathPromptCache(f string) PredictOption {
	return func(p *PredictOptions) { p.PathPromptCache = f }
}

// EnablePromptCacheAll keeps the predicted text in the prompt cache too.
var EnablePromptCacheAll PredictOption = func(p *PredictOptions) { p.PromptCacheAll = true }

// EnablePromptCacheRO reads the prompt cache and does not write it.
var EnablePromptCacheRO PredictOption = func(p *PredictOptions) { p.PromptCacheRO = true }

// SetNDraft sets how many tokens the draft model of LLama.SpeculativeSampling proposes at a time.
func SetNDraft(nd int) PredictOption { return func(p *PredictOptions) { p.NDraft = nd } }

// SetNegativePrompt sets a text to move away from (classifier-free guidance). It has an effect with a scale above 1.
func SetNegativePrompt(np string) PredictOption {
	return func(p *PredictOptions) { p.NegativePrompt = np }
}

// SetNegativePromptScale sets how far the prediction moves away from the negative prompt; 1 and below: not at all.
func SetNegativePromptScale(nps float32) PredictOption {
	return func(p *PredictOptions) { p.NegativePromptScale = nps }
}

// SetRopeFreqBase has no effect: RoPE is fixed when the model is loaded, see WithRopeFreqBase.
func SetRopeFreqBase(rfb float32) PredictOption {
	return func(p *PredictOptions) { p.RopeFreqBase = rfb }
}

// SetRopeFreqScale has no effect: RoPE is fixed when the model is loaded, see WithRopeFreqScale.
func SetRopeFreqScale(rfs float32) PredictOption {
	return func(p *PredictOptions) { p.RopeFreqScale = rfs }
}

// EnableF16KV has no effect: the type of the memory is fixed when the model is loaded, see EnableF16Memory.
var EnableF16KV PredictOption = func(p *PredictOptions) { p.F16KV = true }

// SetMlock has no effect: the model is locked when it is loaded, see EnableMLock.
func SetMlock(b bool) PredictOption { return func(p *PredictOptions) { p.MLock = b } }

// SetMemoryMap has no effect: the model is mapped when it is loaded, see SetMMap.
func SetMemoryMap(b bool) PredictOption { return func(p *PredictOptions) { p.MMap = b } }

// SetPredictionTensorSplit has no effect: the model is split when it is loaded, see SetTensorSplit.
func SetPredictionTensorSplit(maingpu string) PredictOption {
	return func(p *PredictOptions) { p.TensorSplit = maingpu }
}

// SetPredictionMainGPU has no effect: the model is placed when it is loaded, see SetMainGPU.
func SetPredictionMainGPU(maingpu string) PredictOption {
	return func(p *PredictOptions) { p.MainGPU = maingpu }
}

// Debug has no effect: the package prints nothing. SetLog shows what llama.cpp logs.
var Debug PredictOption = func(p *PredictOptions) { p.DebugMode = true }
