// Package llama has the interface of go-skynet/go-llama.cpp, name by name and type by type, over today's llama.cpp: programs
// written for that package compile unchanged and load today's GGUF models and LoRA adapters.
//
//	l, err := llama.New("model.gguf", llama.SetContext(512), llama.SetLoraAdapter("adapter.gguf"))
//	defer l.Free()
//	text, err := l.Predict("Once upon a time", llama.SetTokens(64))
//
// It exports nothing else, because its users import it with a dot beside packages that have names of their own. It is
// written in Go over the package llama below it (github.com/go-skynet/go-llama.cpp/llama), which has models, contexts,
// adapters and samplers in llama.cpp's own words, and is the one to use in a new program.
//
// Options that llama.cpp no longer has are accepted and say that they have no effect. Two differences are worth knowing: a
// prediction never uses more threads than there are CPUs, and an embedding has the length of the model's embedding instead
// of that of SetTokens.
//
// An LLama must not be used by two goroutines at a time, except for SetTokenCallback. Errors are those of the package below.
package llama
