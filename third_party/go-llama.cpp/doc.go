// Package llama runs GGUF models with llama.cpp. It has two layers.
//
// The native layer is thin and keeps llama.cpp's own words: Model, Vocab, Context, Batch, Adapter, Sampler, and
// Context.Trace, which lists the graph of a forward pass without running it. llama.cpp's manual applies to it.
//
//	model, err := llama.LoadModel("model.gguf", llama.ModelParams{})
//	defer model.Close()
//	ctx, err := llama.NewContext(model, llama.ContextParams{NCtx: 512})
//	defer ctx.Close()
//	tokens, err := model.Vocab().Tokenize("Once upon a time", true, false)
//	err = ctx.Decode(llama.Batch{Tokens: tokens})
//	logits := ctx.Logits(len(tokens) - 1) // [n_vocab]
//
// The other layer is the interface of go-skynet/go-llama.cpp (New, LLama.Predict and the options), written in Go on top of
// the native one, so that programs made for it load today's models and LoRA adapters unchanged.
//
// # Goroutines
//
// A Model, its Vocab and an Adapter may be shared. A Context, a Sampler and an LLama must not be used by two goroutines
// at a time: llama.cpp does no locking. SetLog, OnLeak and LLama.SetTokenCallback may be called at any time.
//
// # Errors
//
// What llama.cpp refuses comes back as *Error, with its code and what it logged. C++ exceptions never leave the bridge.
// Neither do its failed assertions while it loads, tokenizes or samples; one inside Decode ends the process, and what a
// caller's input could trip there is checked beforehand.
package llama
