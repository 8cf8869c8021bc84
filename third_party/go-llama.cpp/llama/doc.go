// Package llama runs GGUF models with llama.cpp, in a thin layer that keeps llama.cpp's own words: Model, Vocab, Context,
// Batch, Adapter, Sampler, and Context.Trace, which lists the graph of a forward pass without running it. llama.cpp's manual
// applies to it.
//
//	model, err := llama.LoadModel("model.gguf", llama.ModelParams{})
//	defer model.Close()
//	ctx, err := llama.NewContext(model, llama.ContextParams{NCtx: 512})
//	defer ctx.Close()
//	tokens, err := model.Vocab().Tokenize("Once upon a time", true, false)
//	err = ctx.Decode(llama.Batch{Tokens: tokens})
//	logits := ctx.Logits(len(tokens) - 1) // [n_vocab]
//
// # Goroutines
//
// A Model, its Vocab and an Adapter may be shared. A Context and a Sampler must not be used by two goroutines at a time:
// llama.cpp does no locking. SetLog and OnLeak may be called at any time.
//
// # Errors
//
// What llama.cpp refuses comes back as *Error, with its code and what it logged. C++ exceptions never leave the bridge.
// Neither do its failed assertions while it loads, tokenizes or samples; one inside Decode ends the process, and what a
// caller's input could trip there is checked beforehand.
package llama
