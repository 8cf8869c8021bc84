package convert

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"finetune/convert/safetensors"
	"finetune/internal/hint"
)

// A DoRA scales each row of W + scale·B·A to a length of its own, its magnitude: [out], beside A and B. The rows are those
// of B, and go wherever those go. Of the formats here only PEFT has it, and what is made of it is a file that merge takes,
// not llama.cpp.

func (p pair) isDoRA() bool { return p.magnitudes.read != nil }

func (l *lora) isDoRA() bool {
	for _, p := range l.pairs {
		return p.isDoRA() // all are, or none is
	}
	return false
}

// magnitudeSuffixes are the ends of names in PEFT: as save_pretrained writes them, and as the parameter is called.
var magnitudeSuffixes = []string{".lora_magnitude_vector", ".lora_magnitude_vector.weight"}

// magnitudesModule returns the module whose magnitudes a tensor holds, from the tensor's name without PEFT's prefix.
func magnitudesModule(name string) (string, bool) {
	for _, suffix := range magnitudeSuffixes {
		if module, ok := strings.CutSuffix(name, suffix); ok {
			return module, true
		}
	}
	return "", false
}

// vector reads a tensor [n] as a matrix [n][1].
func vector(f *safetensors.File, t safetensors.Tensor) (matrix, error) {
	if len(t.Shape) != 1 || t.Shape[0] < 1 {
		return matrix{}, &FormatError{f.Path(), fmt.Sprintf("tensor %q: shape %v, want one dimension", t.Name, t.Shape)}
	}
	m := matrix{dtypes[t.DType], int(t.Shape[0]), 1, func() ([]byte, error) { return f.Data(t.Name) }}
	return m, m.checkFinite(f.Path(), t.Name)
}

// magnitudesOf returns the magnitudes of module mod, which the file calls name. They are there exactly if the
// configuration says DoRA; a LoRA gets no matrix.
func (p *peftReader) magnitudesOf(name string, mod module) (matrix, error) {
	m, ok := p.magnitudes[name]
	switch {
	case !p.config.dora && !ok:
		return matrix{}, nil
	case !p.config.dora:
		return matrix{}, p.format("module %q: has a lora_magnitude_vector, and %s does not say use_dora", name, configFile)
	case !ok:
		return matrix{}, p.format("module %q: %s says use_dora, and its lora_magnitude_vector is missing", name, configFile)
	case mod.embedding || mod.expert >= 0:
		err := &UnsupportedError{p.f.Path(), fmt.Sprintf("module %q: DoRA on embeddings or experts", name)}
		return matrix{}, hint.With(err, instead)
	case m.rows != mod.out:
		return matrix{}, hint.With(p.format("module %q: %d magnitudes, want %d", name, m.rows, mod.out), otherBase)
	}
	return m, nil
}

// checkMagnitudes refuses magnitudes of a module that has no factors.
func (p *peftReader) checkMagnitudes() error {
	for _, name := range slices.Sorted(maps.Keys(p.magnitudes)) {
		if _, ok := p.factors[name]; !ok {
			return p.format("module %q: has a lora_magnitude_vector, and A and B are missing", name)
		}
	}
	return nil
}

// errSomeRows: the magnitudes of rows that no adapter is on would be the lengths of the weight's own.
var errSomeRows = hint.With(errors.New("a DoRA on some of its rows only, and the magnitudes of the others depend on the model"), instead)

// joinedMagnitudes returns the magnitudes of a weight of n rows, from what others contribute to it.
func joinedMagnitudes(given []contribution, n int) (matrix, error) {
	var all []matrix
	for _, p := range given {
		all = append(all, p.magnitudes)
	}
	joined := stacked(sameType(all))
	rows := placed(given, n)
	if slices.Contains(rows, -1) || rows == nil && joined.rows != n {
		return matrix{}, errSomeRows
	}
	return joined.pickRows(rows), nil
}

// onlyToGGUF refuses to write a DoRA as anything but our own file.
func (c Config) onlyToGGUF() error {
	if c.To == GGUF {
		return nil
	}
	return hint.With(&UnsupportedError{c.From, fmt.Sprintf("is a DoRA, which is not converted to %s", c.To)},
		"--to gguf makes a file of it that finetune merge puts into the model")
}
