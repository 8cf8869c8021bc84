package convert

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"

	"finetune/classify"
	"finetune/convert/safetensors"
	"finetune/gguf"
	"finetune/internal/hint"
	"finetune/quant/plain"
)

// metadataLabels is the key of the classes in the metadata of PEFT's file, as id2label of a config.json.
const metadataLabels = "finetune.id2label"

// identityStep is the step s of the dense layer s·I that stands for none: tanh(s·x)/s is x but for s²x²/3 of it, 2e-8 of a state
// of 1 and 2e-6 of one of 10, which float32's rounding hides.
const identityStep = 1.0 / 4096

// classifier reads the classifier beside a GGUF LoRA, nil where there is none, or one of another model.
func (g *ggufReader) classifier() (*classify.Head, error) {
	path := filepath.Join(filepath.Dir(g.f.Path()), classify.FileName)
	if info, err := os.Stat(path); errors.Is(err, fs.ErrNotExist) || err == nil && !info.Mode().IsRegular() {
		return nil, nil
	}
	h, err := classify.Load(path)
	if err != nil {
		return nil, err
	}
	if err := h.CheckBase(g.m.Architecture, g.m.Hash, g.m.nEmbd()); err != nil {
		g.r.note("%q is left out: %v", path, err)
		return nil, nil
	}
	return h, nil
}

// headPrefix returns what the encoder is called under a classifier: as the adapter has it, or as the vocabulary lets expect.
func (m *baseModel) headPrefix(wrapper string) string {
	switch {
	case wrapper == prefixBERT || wrapper == prefixRoBERTa:
		return wrapper
	case m.vocabulary == "bert":
		return prefixBERT
	}
	return prefixRoBERTa
}

// headForm returns the form that a classifier has in transformers.
func (m *baseModel) headForm(wrapper string) headForm {
	switch {
	case !m.hasPooler():
		return formDecoder
	case wrapper == prefixBERT:
		return formBERT
	}
	return formRoBERTa
}

// prepareHead refuses a classifier that transformers has no class for, and notes the names of its classes in the metadata of the
// file. Names are then those of the model with a classifier.
func (m *baseModel) prepareHead(l *lora, metadata map[string]string, r *Report) error {
	h := l.head
	if h == nil {
		return nil
	}
	unsupported := func(format string, args ...any) error {
		return hint.With(&UnsupportedError{r.From, fmt.Sprintf(format, args...)}, withoutClassifier)
	}
	want := classify.PoolLast
	if m.hasPooler() {
		l.wrapper, want = m.headPrefix(l.wrapper), classify.PoolFirst
	}
	form := m.headForm(l.wrapper)
	switch {
	case h.Pooling != want:
		return unsupported("the classifier is one over the pooling %q, transformers has it over %q", h.Pooling, want)
	case form == formDecoder && slices.ContainsFunc(h.Biases, func(v float32) bool { return v != 0 }):
		return unsupported("the classifier has biases, transformers' has none over a %s", m.Architecture)
	case form == formDecoder && h.Dense != nil:
		return unsupported("the classifier has a dense layer, transformers' has none over a %s", m.Architecture)
	case form != formDecoder && h.Dense == nil:
		l.head = throughIdentity(h)
		r.note("transformers has a dense layer and a tanh before the scores: it is written as %g times the identity, whose tanh changes nothing that float32 shows", identityStep)
	}
	labels := map[int]string{}
	for i, label := range h.Labels {
		labels[i] = label
	}
	metadata[metadataLabels] = string(jsonText(labels))
	return nil
}

// throughIdentity returns a linear classifier with a dense layer that changes nothing.
func throughIdentity(h *classify.Head) *classify.Head {
	wide := *h
	n := h.NEmbd()
	wide.Dense = &classify.Dense{Weights: make([]float32, n*n), Biases: make([]float32, n)}
	for i := range n {
		wide.Dense.Weights[i*n+i] = identityStep
	}
	wide.Weights = make([]float32, len(h.Weights))
	for i, v := range h.Weights {
		wide.Weights[i] = v / identityStep
	}
	return &wide
}

// addHead adds the tensors of a classifier to PEFT's file, under the names that save_pretrained gives them.
func (m *baseModel) addHead(b *safetensors.Builder, l *lora) {
	h := l.head
	if h == nil {
		return
	}
	form, n, classes := m.headForm(l.wrapper), int64(h.NEmbd()), int64(len(h.Labels))
	add := func(name string, v []float32, shape ...int64) {
		b.Add(peftPrefix+name, safetensors.F32, shape, func() ([]byte, error) { return plain.Append(nil, gguf.TypeF32, v) })
	}
	add(form.out+".weight", h.Weights, classes, n)
	if form == formDecoder {
		return
	}
	add(form.out+".bias", h.Biases, classes)
	dense := form.dense
	if form == formBERT {
		dense = l.wrapper + dense
	}
	add(dense+".weight", h.Dense.Weights, n, n)
	add(dense+".bias", h.Dense.Biases, n)
}

// savedModules returns PEFT's modules_to_save, nil for none.
func (m *baseModel) savedModules(l *lora) any {
	switch {
	case l.head == nil:
		return nil
	case m.headForm(l.wrapper) == formBERT:
		return []string{"pooler", "classifier", "score"}
	}
	return []string{"classifier", "score"}
}

// taskType returns PEFT's task_type.
func (m *baseModel) taskType(l *lora) string {
	switch {
	case l.head != nil:
		return "SEQ_CLS"
	case m.hasPooler():
		return "FEATURE_EXTRACTION"
	}
	return "CAUSAL_LM"
}
