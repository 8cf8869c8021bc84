// Package newmodel makes base models from nothing: an architecture of any size with the start of
// a training in its weights, and a tokenizer for it. What it writes is a GGUF that llama.cpp
// loads and runs; it has learned nothing yet.
//
//	bpe, err := newmodel.TrainBPE(slices.Values([]string{text}), 2048)
//	spec := newmodel.DefaultSpec()
//	spec.Vocabulary = bpe.Vocabulary()
//	model, err := newmodel.New(spec)
//	err = model.WriteFile("base.gguf")
//
// The architectures are a table of the tensors that llama.cpp's loader asks for. The
// tokenizer is byte-level BPE as GPT-2 has it, over llama.cpp's pre-tokenizer "smollm":
// digits one by one, and no text that does not come back byte for byte. Any tokenizer of
// another GGUF will do as well, see [ReadVocabulary].
//
// Everything is a function of its input and a seed, to the byte and on every platform.
// Shapes are in ggml's order, fastest dimension first.
package newmodel
