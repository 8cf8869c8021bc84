package merge

import (
	"finetune/gguf"
)

// smaller are the types of blocks of 32 that llama.cpp's quantizer takes for rows that
// are no whole blocks of 256 (llama_tensor_get_type in llama-quant.cpp).
var smaller = map[gguf.Type]gguf.Type{
	gguf.TypeTQ1_0: gguf.TypeQ4_0, gguf.TypeTQ2_0: gguf.TypeQ4_0,
	gguf.TypeIQ1_S: gguf.TypeIQ4_NL, gguf.TypeIQ1_M: gguf.TypeIQ4_NL,
	gguf.TypeIQ2_XXS: gguf.TypeIQ4_NL, gguf.TypeIQ2_XS: gguf.TypeIQ4_NL, gguf.TypeIQ2_S: gguf.TypeIQ4_NL,
	gguf.TypeIQ3_XXS: gguf.TypeIQ4_NL, gguf.TypeIQ3_S: gguf.TypeIQ4_NL, gguf.TypeIQ4_XS: gguf.TypeIQ4_NL,
	gguf.TypeQ2_K: gguf.TypeIQ4_NL, gguf.TypeQ3_K: gguf.TypeIQ4_NL,
	gguf.TypeQ4_K: gguf.TypeQ5_0, gguf.TypeQ5_K: gguf.TypeQ5_1, gguf.TypeQ6_K: gguf.TypeQ8_0,
}

// fitting returns t if rows of n_in elements are whole blocks of it, else the smaller
// type, else F16.
func fitting(t gguf.Type, nIn int64) gguf.Type {
	fits := func(t gguf.Type) bool { return nIn%int64(t.BlockSize()) == 0 }
	if fits(t) {
		return t
	}
	if s, ok := smaller[t]; ok && fits(s) {
		return s
	}
	return gguf.TypeF16
}

// fileTypes are the values of general.file_type (enum llama_ftype in llama.h) of models
// that are mostly of a type, those that llama.cpp guesses where the key is missing.
var fileTypes = map[gguf.Type]uint32{
	gguf.TypeF32: 0, gguf.TypeF16: 1, gguf.TypeQ4_0: 2, gguf.TypeQ4_1: 3, gguf.TypeQ8_0: 7, gguf.TypeQ5_0: 8, gguf.TypeQ5_1: 9,
	gguf.TypeQ2_K: 10, gguf.TypeQ3_K: 12, gguf.TypeQ4_K: 15, gguf.TypeQ5_K: 17, gguf.TypeQ6_K: 18,
	gguf.TypeIQ2_XXS: 19, gguf.TypeIQ2_XS: 20, gguf.TypeIQ3_XXS: 23, gguf.TypeIQ1_S: 24, gguf.TypeIQ4_NL: 25, gguf.TypeIQ3_S: 26,
	gguf.TypeIQ2_S: 28, gguf.TypeIQ4_XS: 30, gguf.TypeIQ1_M: 31, gguf.TypeBF16: 32, gguf.TypeTQ1_0: 36, gguf.TypeTQ2_0: 37,
}

// Keys that describe the types of a model's tensors.
const (
	keyFileType     = "general.file_type"
	keyQuantVersion = "general.quantization_version"
	quantVersion    = 2 // GGML_QNT_VERSION, for as long as there are K-quants
)

// setFileType changes general.file_type if most weights are of another type than they
// were, and says the version of the quantized types if there were none before. With
// every tensor in its own type nothing changes.
func (m *merger) setFileType() {
	before, after := map[gguf.Type]int64{}, map[gguf.Type]int64{}
	quantized := false
	for _, t := range m.base.Tensors() {
		before[t.Type] += t.Elements()
		to := t.Type
		if c := m.changes[t.Name]; c != nil {
			to = c.to
			quantized = quantized || to != t.Type && to.BlockSize() > 1
		}
		after[to] += t.Elements()
	}
	_, said := m.base.Get(keyFileType)
	if value, ok := fileTypes[most(after)]; ok && said && most(after) != most(before) {
		m.builder.Set(keyFileType, value)
	}
	if _, said := m.base.Get(keyQuantVersion); quantized && !said {
		m.builder.Set(keyQuantVersion, uint32(quantVersion))
	}
}

// most returns the type with the most elements, of equals the one with the lower id.
func most(elements map[gguf.Type]int64) (best gguf.Type) {
	for _, t := range gguf.Types() {
		if elements[t] > elements[best] {
			best = t
		}
	}
	return best
}
