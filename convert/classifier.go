package convert

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"finetune/classify"
	"finetune/convert/safetensors"
	"finetune/internal/hint"
	"finetune/internal/output"
)

// PEFT trains the classifier of a ...ForSequenceClassification along with an adapter, whole, and saves it beside the factors. It
// is one of three:
//
//	BERT            classifier.{weight,bias}: over tanh(pooler.dense·h) of the first token's state h. The pooler is
//	                a part of the base, which no GGUF has; it may be trained too, or have a LoRA.
//	RoBERTa, XLM-R  classifier.dense and classifier.out_proj, with a tanh between them; no pooler
//	decoders        score.weight, over the last token's state, without biases
//
// llama.cpp has the first two as cls and cls.output.
type headForm struct{ out, dense string }

const pooler = "pooler.dense"

var (
	formBERT    = headForm{"classifier", pooler}
	formRoBERTa = headForm{"classifier.out_proj", "classifier.dense"}
	formDecoder = headForm{out: "score"}
)

// What the encoder is called in the models with a classifier.
const (
	prefixBERT    = "bert."
	prefixRoBERTa = "roberta."
)

// hasPooler reports whether the model is one of transformers' with a pooler.
func (m *baseModel) hasPooler() bool { return slices.Contains(m.unadapted, pooler) }

// headForms are the classifiers that transformers has over the base.
func (m *baseModel) headForms() []headForm {
	if m.hasPooler() {
		return []headForm{formRoBERTa, formBERT}
	}
	return []headForm{formDecoder}
}

// isHead reports whether a name of modules_to_save is a part of a classifier.
func isHead(name string) bool {
	return slices.Contains([]string{"classifier", "score", "pooler"}, name[strings.LastIndexByte(name, '.')+1:])
}

// headReader gathers the parts of a classifier.
type headReader struct {
	dir, transformers string                        // folders of the adapter and of the base; empty for none
	parts             map[string]safetensors.Tensor // by name, such as "classifier.weight"
	pooler            string                        // the name of the pooler's LoRA in the file, if it has one
	skip              bool                          // the classifier is left out
}

// savedModule is a part of a classifier in a state_dict, with the adapter's name or without.
var savedModule = regexp.MustCompile(`^(classifier|score|pooler)\.modules_to_save\.(?:[^.]+\.)??((?:dense\.|out_proj\.)?(?:weight|bias))$`)

// headPart files a tensor of a classifier, given without PEFT's prefix, and reports whether it is one.
func (p *peftReader) headPart(name string, t safetensors.Tensor) bool {
	name, _ = p.m.unwrap(name)
	name = savedModule.ReplaceAllString(name, "$1.$2")
	for _, form := range p.m.headForms() {
		for _, module := range []string{form.out, form.dense} {
			if module != "" && (name == module+".weight" || name == module+".bias") {
				p.head.parts[name] = t
				return true
			}
		}
	}
	before, _, original := strings.Cut(name, ".original_module.") // the base's own, which the trained one stands for
	return original && isHead(before)
}

// poolerPair notes a LoRA on the pooler.
func (p *peftReader) poolerPair(name string) error {
	if p.head.pooler != "" {
		return p.format("module %q: comes twice, by different names", name)
	}
	if p.config.dora {
		return hint.With(&UnsupportedError{p.f.Path(), fmt.Sprintf("module %q: a DoRA on the pooler, want a LoRA", name)}, instead)
	}
	p.head.pooler = name
	return nil
}

// classifier makes the classifier of its parts, nil where there are none.
func (p *peftReader) classifier() (*classify.Head, error) {
	if p.head.skip {
		return nil, nil
	}
	if len(p.head.parts) == 0 {
		if slices.ContainsFunc(p.config.saved, isHead) {
			return nil, p.format("has no classifier, and %s says that %q was trained along", configFile, p.config.saved)
		}
		if p.head.pooler != "" {
			p.r.note("module %q: left out, the pooling of llama.cpp goes without it", p.head.pooler)
		}
		return nil, nil
	}
	if task := p.config.task; task != "" && task != "SEQ_CLS" {
		return nil, hint.With(&UnsupportedError{p.f.Path(), fmt.Sprintf("a classifier with task_type %q, want \"SEQ_CLS\", one class for a text", task)},
			"llama.cpp scores whole texts only")
	}
	form, err := p.headForm()
	if err != nil {
		return nil, err
	}
	nEmbd := p.m.nEmbd()
	out := p.head.parts[form.out+".weight"]
	if len(out.Shape) != 2 || out.Shape[1] != int64(nEmbd) {
		return nil, hint.With(p.format("tensor %q: shape %v, want [n_classes %d]", out.Name, out.Shape, nEmbd), otherBase)
	}
	n := out.Shape[0]
	if n == 1 {
		return nil, hint.With(&UnsupportedError{p.f.Path(), fmt.Sprintf("tensor %q: one score for a text, want 2 classes or more", out.Name)}, instead)
	}
	if n < 2 || n > classify.MostLabels {
		return nil, p.format("tensor %q: %d classes, want 2 to %d", out.Name, n, classify.MostLabels)
	}
	h := &classify.Head{Architecture: p.m.Architecture, BaseHash: p.m.Hash, Pooling: classify.PoolFirst}
	if h.Labels, err = p.labels(int(n)); err != nil {
		return nil, err
	}
	if h.Weights, err = p.headFloats(p.f, out, n, int64(nEmbd)); err != nil {
		return nil, err
	}
	if form == formDecoder {
		h.Pooling = classify.PoolLast
		if _, ok := p.head.parts[form.out+".bias"]; !ok {
			h.Biases = make([]float32, n)
			return h, nil
		}
	}
	if h.Biases, err = p.part(form.out+".bias", n); err != nil {
		return nil, err
	}
	if form.dense != "" {
		h.Dense, err = p.dense(form, int64(nEmbd))
	}
	return h, err
}

// headForm finds out which classifier the parts are of.
func (p *peftReader) headForm() (headForm, error) {
	var found []headForm
	for _, form := range p.m.headForms() {
		if _, ok := p.head.parts[form.out+".weight"]; ok {
			found = append(found, form)
		}
	}
	switch len(found) {
	case 1:
		return found[0], nil
	case 0:
		return headForm{}, p.format("has parts of a classifier, and no %q", p.m.headForms()[0].out+".weight")
	}
	return headForm{}, p.format("has both %q and %q, which are of different classifiers", found[0].out+".weight", found[1].out+".weight")
}

// dense returns the layer before the scores: from the adapter, or a BERT's pooler from its base, with the LoRA that is on it.
func (p *peftReader) dense(form headForm, n int64) (d *classify.Dense, err error) {
	if _, ok := p.head.parts[form.dense+".weight"]; ok || form == formRoBERTa {
		d = &classify.Dense{}
		if d.Weights, err = p.part(form.dense+".weight", n, n); err != nil {
			return nil, err
		}
		if d.Biases, err = p.part(form.dense+".bias", n); err != nil {
			return nil, err
		}
	} else if d, err = p.poolerOfBase(n); err != nil {
		return nil, err
	}
	if p.head.pooler == "" {
		return d, nil
	}
	return d, p.addPooler(d, int(n))
}

// poolerOfBase reads the pooler from the folder of the base.
func (p *peftReader) poolerOfBase(n int64) (*classify.Dense, error) {
	const why = "the classifier is one over BERT's pooler, which is neither in the adapter nor in any GGUF"
	if p.head.transformers == "" {
		return nil, hint.With(p.format("%s", why), "--transformers FOLDER takes it from the base as transformers has it, a folder with model.safetensors")
	}
	f, err := safetensors.Open(filepath.Join(p.head.transformers, "model.safetensors"))
	if err != nil {
		return nil, err
	}
	defer f.Close()
	d, found := &classify.Dense{}, map[string]safetensors.Tensor{}
	for _, t := range f.Tensors() {
		name, _ := p.m.unwrap(t.Name)
		found[name] = t
	}
	for _, part := range []struct {
		end   string
		to    *[]float32
		shape []int64
	}{{".weight", &d.Weights, []int64{n, n}}, {".bias", &d.Biases, []int64{n}}} {
		t, ok := found[pooler+part.end]
		if !ok {
			return nil, &FormatError{f.Path(), fmt.Sprintf("tensor %q: missing", pooler+part.end)}
		}
		if *part.to, err = p.headFloats(f, t, part.shape...); err != nil {
			return nil, err
		}
	}
	return d, nil
}

// addPooler adds the LoRA on the pooler to it: D += scale·B·A.
func (p *peftReader) addPooler(d *classify.Dense, n int) error {
	name := p.head.pooler
	a, b := p.factors[name][0], p.factors[name][1]
	if err := (module{in: n, out: n}).check(p.f.Path(), name, a, b); err != nil {
		return err
	}
	rank, scale, err := p.config.scaleOf(name)
	if err != nil {
		return err
	}
	if rank != a.rows {
		return p.format("module %q: factors of rank %d, %s says %d", name, a.rows, configFile, rank)
	}
	as, err := a.floats()
	if err != nil {
		return err
	}
	bs, err := b.floats()
	if err != nil {
		return err
	}
	for i := range n {
		for j := range n {
			sum := 0.0
			for k := range rank {
				sum += float64(bs[i*rank+k]) * float64(as[k*n+j])
			}
			d.Weights[i*n+j] = float32(float64(d.Weights[i*n+j]) + scale*sum)
		}
	}
	p.r.note("module %q: its LoRA is in the classifier's dense layer", name)
	return nil
}

// part reads a part of the classifier.
func (p *peftReader) part(name string, shape ...int64) ([]float32, error) {
	t, ok := p.head.parts[name]
	if !ok {
		return nil, p.format("tensor %q: missing, and the rest of the classifier is there", name)
	}
	return p.headFloats(p.f, t, shape...)
}

// headFloats reads a tensor [rows][cols], or [n], of numbers that are numbers.
func (p *peftReader) headFloats(f *safetensors.File, t safetensors.Tensor, shape ...int64) ([]float32, error) {
	if !slices.Equal(t.Shape, shape) {
		return nil, &FormatError{f.Path(), fmt.Sprintf("tensor %q: shape %v, want %v", t.Name, t.Shape, shape)}
	}
	if len(shape) == 1 {
		m, err := vector(f, t)
		if err != nil {
			return nil, err
		}
		return m.floats()
	}
	ms, err := tensorMatrices(f, t)
	if err != nil {
		return nil, err
	}
	return ms[0].floats()
}

// labels returns the names of n classes: those beside the adapter, those that this program left in it, those of the base in
// transformers' layout or in the GGUF, or transformers' LABEL_0 and so on.
func (p *peftReader) labels(n int) ([]string, error) {
	beside, err := labelsIn(p.head.dir)
	if err != nil {
		return nil, err
	}
	if beside != nil && len(beside) != n {
		return nil, &FormatError{filepath.Join(p.head.dir, "config.json"), fmt.Sprintf("id2label names %d classes, the classifier has %d", len(beside), n)}
	}
	noted, err := labelsOf(p.f.Path(), []byte(p.f.Metadata()[metadataLabels]))
	if err != nil {
		return nil, err
	}
	ofBase, err := labelsIn(p.head.transformers)
	if err != nil {
		return nil, err
	}
	for _, labels := range [][]string{beside, noted, ofBase, p.m.labels} {
		if len(labels) == n {
			return labels, nil
		}
	}
	labels := make([]string, n)
	for i := range labels {
		labels[i] = "LABEL_" + strconv.Itoa(i)
	}
	p.r.note("the names of the classes are not known: a config.json with id2label beside the adapter gives them")
	return labels, nil
}

// labelsIn reads id2label of a folder's config.json, nil where there is none.
func labelsIn(dir string) ([]string, error) {
	if dir == "" {
		return nil, nil
	}
	path := filepath.Join(dir, "config.json")
	if _, err := os.Stat(path); err != nil {
		return nil, nil
	}
	c, err := readJSON(path)
	if err != nil || !c.has("id2label") {
		return nil, err
	}
	return labelsOf(path, c.values["id2label"])
}

// labelsOf reads an object of names by number; empty text is none.
func labelsOf(path string, text []byte) ([]string, error) {
	if len(text) == 0 {
		return nil, nil
	}
	c, err := parseConfig(path, text)
	if err != nil {
		return nil, err
	}
	labels := make([]string, len(c.values))
	for i := range labels {
		key := strconv.Itoa(i)
		if !c.has(key) {
			return nil, &FormatError{path, fmt.Sprintf("id2label: %d classes, and none of number %d", len(labels), i)}
		}
		if labels[i] = c.text(key); c.err != nil {
			return nil, c.err
		}
	}
	return labels, nil
}

// nEmbd returns the width of the states.
func (m *baseModel) nEmbd() int {
	if shape := m.shapes["token_embd.weight"]; len(shape) == 2 {
		return int(shape[0])
	}
	return 0
}

// withoutClassifier is the advice for a classifier that the wanted format cannot hold.
const withoutClassifier = "a copy of adapter.gguf in another folder converts without its classifier; finetune merge puts both into the model"

// checkHead refuses a classifier where the wanted format has no place for it, and says in the report where it goes.
func (c Config) checkHead(l *lora, r *Report) error {
	if l.head == nil {
		return nil
	}
	r.Labels = l.head.Labels
	switch c.To {
	case MLX:
		return hint.With(&UnsupportedError{c.From, "has a classifier, for which mlx-lm has no place"}, withoutClassifier)
	case PEFT:
		return nil
	}
	r.Classifier = filepath.Join(filepath.Dir(c.Out), classify.FileName)
	if filepath.Clean(c.Out) == r.Classifier {
		return fmt.Errorf("convert: %q: is where the classifier goes, want another name for the adapter", c.Out)
	}
	if err := (output.Target{Path: r.Classifier, Force: c.Force, Inputs: []string{c.From, c.Model}}).Check(); err != nil {
		return hint.With(fmt.Errorf("convert: the classifier goes beside the adapter: %w", err), "a folder of its own for each adapter with a classifier")
	}
	return nil
}
