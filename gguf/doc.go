// Package gguf reads and writes GGUF, the file format of llama.cpp models.
//
// A GGUF file is a header (magic "GGUF", version, counts), key-value pairs, tensor
// descriptions, padding, and a data section in which every tensor starts at a
// multiple of the alignment (general.alignment, 32 bytes unless the file says so).
// The format is described at https://github.com/ggml-org/ggml/blob/master/docs/gguf.md.
//
// Read are versions 2 and 3, little and big endian, every value type, nested arrays,
// every ggml tensor type, and models split into -00001-of-0000N.gguf parts. Written
// is version 3, little endian, in one file or split. Refused are version 1, tensor types that
// ggml has removed, tensor names of 64 bytes or more (ggml's own limit), alignments
// above [MaxAlignment] and headers above [MaxHeader] bytes.
//
// Shapes are in ggml's order, fastest dimension first: a weight that maps n_in
// inputs to n_out outputs has Shape [n_in, n_out].
//
// A copy of a model in five lines:
//
//	f, err := gguf.Open("model.gguf") // check err; defer f.Close()
//	b := gguf.NewBuilder()
//	b.SetAll(f.KVs())
//	for _, t := range f.Tensors() { b.CopyTensor(f, t.Name) }
//	err = b.WriteFile("copy.gguf")
//
// Three failures have three forms: a [*FormatError] is a file that is not GGUF or is
// damaged, a [*TruncatedError] is a GGUF that ends early, and an [*UnsupportedError]
// is a valid GGUF that this package does not handle. Errors of the file system pass
// through untouched.
package gguf
