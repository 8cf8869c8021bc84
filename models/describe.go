package models

import (
	"fmt"
	"io"
	"os"

	"finetune/gguf"
)

// Model is a base model that was found.
type Model struct {
	Name         string `json:"name"`   // what --model takes
	Path         string `json:"path"`   // of its file, or of the first part of several
	Source       string `json:"source"` // SourceOwn and the others
	Bytes        int64  `json:"bytes"`  // of all parts
	Architecture string `json:"architecture,omitempty"`
	Type         string `json:"type,omitempty"`       // such as Q4_K_M; where the file does not say, that of most of its weights
	Parameters   int64  `json:"parameters,omitempty"` // elements of all tensors
	Problem      string `json:"problem,omitempty"`    // why its header cannot be read; the fields above are then empty
}

// describe reads the header of the model at m.Path into m, and reports whether it is a base: not an adapter, a projector of
// images, or an importance matrix. A file that cannot be read is listed with what is wrong with it.
func (m *Model) describe() (isBase bool) {
	f, err := gguf.Open(m.Path)
	if err != nil {
		m.Problem = err.Error()
		if info, err := os.Stat(m.Path); err == nil {
			m.Bytes = info.Size()
		}
		return true
	}
	defer f.Close()
	if kind, err := f.String("general.type"); err == nil && kind != "model" || f.Architecture() == "clip" {
		return false
	}
	m.Architecture = f.Architecture()
	for _, path := range f.Paths() {
		if info, err := os.Stat(path); err == nil {
			m.Bytes += info.Size()
		}
	}
	elements := map[gguf.Type]int64{}
	for _, t := range f.Tensors() {
		m.Parameters += t.Elements()
		elements[t.Type] += t.Elements()
	}
	m.Type = typeOf(f, elements)
	return true
}

// typeOf names the mix of types of a model.
func typeOf(f *gguf.File, elements map[gguf.Type]int64) string {
	if n, err := f.Int("general.file_type"); err == nil {
		if name, ok := mixes[n]; ok {
			return name
		}
	}
	most, found := gguf.Type(0), int64(0)
	for t, n := range elements {
		if n > found || n == found && t < most {
			most, found = t, n
		}
	}
	if found == 0 {
		return ""
	}
	return most.String()
}

// mixes are the names that llama-quantize has for the values of general.file_type (enum llama_ftype in llama.h).
var mixes = map[int64]string{
	0: "F32", 1: "F16", 2: "Q4_0", 3: "Q4_1", 7: "Q8_0", 8: "Q5_0", 9: "Q5_1", 10: "Q2_K", 11: "Q3_K_S", 12: "Q3_K_M", 13: "Q3_K_L",
	14: "Q4_K_S", 15: "Q4_K_M", 16: "Q5_K_S", 17: "Q5_K_M", 18: "Q6_K", 19: "IQ2_XXS", 20: "IQ2_XS", 21: "Q2_K_S", 22: "IQ3_XS",
	23: "IQ3_XXS", 24: "IQ1_S", 25: "IQ4_NL", 26: "IQ3_S", 27: "IQ3_M", 28: "IQ2_S", 29: "IQ2_M", 30: "IQ4_XS", 31: "IQ1_M",
	32: "BF16", 36: "TQ1_0", 37: "TQ2_0", 38: "MXFP4_MOE",
}

// readSmall returns the content of a regular file of at most so many bytes.
func readSmall(path string, most int64) ([]byte, error) {
	if info, err := os.Stat(path); err != nil {
		return nil, err
	} else if !info.Mode().IsRegular() {
		return nil, fmt.Errorf("%q: not a regular file", path)
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, most+1))
	if err == nil && int64(len(text)) > most {
		err = fmt.Errorf("%q: larger than %d bytes", path, most)
	}
	return text, err
}
