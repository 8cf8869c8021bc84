// Package classify is a classifier over the states of a base model: one state for each text, by a pooling, and a score for each
// class, or the one score of a reranker, how relevant a document is to a query; linear or, where it comes from transformers' BERT,
// behind a dense layer with a tanh. It is trained beside an adapter, kept in a file of its own beside the adapter's, since a GGUF
// LoRA has no place for it, and becomes a part of a merged model in the form that llama.cpp's rank pooling reads.
package classify

import (
	"fmt"
	"math"
	"math/rand/v2"
	"slices"

	"finetune/gguf"
	"finetune/internal/hint"
)

// Pooling says what of a text's states is classified, in the words of llama.cpp's enum llama_pooling_type.
type Pooling uint32

// The poolings that leave one state of a text's.
const (
	PoolMean  Pooling = 1 // the mean of all
	PoolFirst Pooling = 2 // that of the first token, [CLS]
	PoolLast  Pooling = 3 // that of the last token

	poolRank Pooling = 4 // scores: a classifier over another pooling
)

func (p Pooling) String() string {
	switch p {
	case PoolMean:
		return "mean"
	case PoolFirst:
		return "cls"
	case PoolLast:
		return "last"
	}
	return fmt.Sprintf("pooling %d", uint32(p))
}

// Names of the tensors, and keys behind the architecture's name, as llama.cpp has them (LLM_TENSOR_CLS_OUT, LLM_KV_…).
const (
	TensorWeights = "cls.output.weight" // [n_embd, n_classes]
	TensorBiases  = "cls.output.bias"   // [n_classes]

	tensorDense       = "cls.weight" // [n_embd, n_embd]
	tensorDenseBiases = "cls.bias"   // [n_embd]

	// KeyLabels is the key of a model's classes, behind its architecture's name.
	KeyLabels = ".classifier.output_labels"

	keyPooling = ".pooling_type"
	keyBelow   = ".classifier.pooling_type" // that rank pooling classifies
	keyCausal  = ".attention.causal"
)

// initialDeviation is that of the weights at the start: initializer_range of BERT and its kin.
const initialDeviation = 0.02

// Head is a classifier of a pooled state h: scores = Wᵀ·h + b, or with a dense layer scores = Wᵀ·tanh(Dᵀ·h + d) + b. Without labels
// it is a reranker's, of one score: the logit of the relevance. Goroutines may share one that nobody changes.
type Head struct {
	Architecture string // of the base
	BaseHash     string // model.Identity.Hash of the base
	Labels       []string
	Pooling      Pooling
	Weights      []float32 // [n_embd, n_classes], ggml's order
	Biases       []float32 // [n_classes]
	Dense        *Dense    // nil: none
}

// Dense is the layer before the scores: BERT's pooler, classifier.dense of RoBERTa. It is not trained here.
type Dense struct {
	Weights []float32 // [n_embd, n_embd], ggml's order
	Biases  []float32 // [n_embd]
}

// New returns a classifier of small random weights, which follow from the seed; without labels that of a reranker.
func New(nEmbd int, labels []string, pooling Pooling, seed uint64) *Head {
	n := max(1, len(labels))
	h := &Head{Labels: labels, Pooling: pooling, Weights: make([]float32, nEmbd*n), Biases: make([]float32, n)}
	random := rand.New(rand.NewPCG(seed, 17))
	for i := range h.Weights {
		h.Weights[i] = float32(initialDeviation * random.NormFloat64())
	}
	return h
}

// Take copies the scores of the labels that another classifier knows too, or a reranker's one score, and returns how many there are.
// Their states have the same width.
func (h *Head) Take(other *Head) (n int) {
	if h.Ranks() != other.Ranks() {
		return 0
	}
	width := h.NEmbd()
	for i := range h.Biases {
		from := 0
		if !h.Ranks() {
			from = slices.Index(other.Labels, h.Labels[i])
		}
		if from < 0 {
			continue
		}
		copy(h.Weights[i*width:][:width], other.Weights[from*width:])
		h.Biases[i] = other.Biases[from]
		n++
	}
	return n
}

// PoolingOf returns the pooling that a base's file asks for, or where it names none the first token's for what reads in both
// directions, the last one's for what reads in one.
func PoolingOf(f *gguf.File) (Pooling, error) {
	arch := f.Architecture()
	p, err := number(f, arch+keyPooling)
	if err == nil && p == poolRank {
		if p, err = number(f, arch+keyBelow); err == nil && p == 0 {
			if p = PoolFirst; arch == "modern-bert" { // llama_model_modern_bert::load_arch_hparams
				p = PoolMean
			}
		}
	}
	switch {
	case err != nil:
		return 0, err
	case p == PoolMean, p == PoolFirst, p == PoolLast:
		return p, nil
	case p != 0:
		return 0, fmt.Errorf("model %q: %s is %d, want 0 to 4", f.Path(), arch+keyPooling, p)
	case IsEncoder(f):
		return PoolFirst, nil
	}
	return PoolLast, nil
}

// number returns a key's value, 0 where there is none.
func number(f *gguf.File, key string) (Pooling, error) {
	if _, ok := f.Get(key); !ok {
		return 0, nil
	}
	n, err := f.Uint(key)
	if err == nil && n > math.MaxUint32 {
		err = fmt.Errorf("model %q: %s is %d", f.Path(), key, n)
	}
	return Pooling(n), err
}

// bothWays are architectures that llama.cpp lets read in both directions whatever their files say.
var bothWays = []string{"gemma-embedding", "llama-embed"}

// IsEncoder reports whether a base attends in both directions, and so predicts no text.
func IsEncoder(f *gguf.File) bool {
	causal, ok := f.Get(f.Architecture() + keyCausal)
	return slices.Contains(bothWays, f.Architecture()) || ok && causal == false
}

// NEmbd returns the width of the states.
func (h *Head) NEmbd() int { return len(h.Weights) / len(h.Biases) }

// Ranks reports whether the one score is a relevance.
func (h *Head) Ranks() bool { return len(h.Labels) == 0 }

// Scores writes the scores of a state [n_embd] to scores [n_classes].
func (h *Head) Scores(state, scores []float32) {
	if d := h.Dense; d != nil {
		inner := make([]float32, len(state))
		linear(d.Weights, d.Biases, state, inner)
		for i, v := range inner {
			inner[i] = float32(math.Tanh(float64(v)))
		}
		state = inner
	}
	linear(h.Weights, h.Biases, state, scores)
}

// linear writes wᵀ·x + b to y: w is [len(x), len(y)] in ggml's order.
func linear(w, b, x, y []float32) {
	n := len(x)
	for row := range y {
		sum := float64(b[row])
		for i, v := range w[row*n:][:n] {
			sum += float64(v) * float64(x[i])
		}
		y[row] = float32(sum)
	}
}

// Probabilities turns scores into probabilities, in place.
func Probabilities(scores []float32) {
	top, sum := slices.Max(scores), 0.0
	for i, v := range scores {
		e := math.Exp(float64(v - top))
		scores[i], sum = float32(e), sum+e
	}
	for i := range scores {
		scores[i] = float32(float64(scores[i]) / sum)
	}
}

// CheckBase refuses a base that the classifier was not trained on.
func (h *Head) CheckBase(architecture, hash string, nEmbd int) error {
	switch {
	case h.Architecture != architecture || h.NEmbd() != nEmbd:
		return fmt.Errorf("classifier of a %s with states of %d numbers, the model is a %s with %d", h.Architecture, h.NEmbd(), architecture, nEmbd)
	case h.BaseHash != hash:
		return hint.With(fmt.Errorf("classifier of a model %.19s, this one is %.19s", h.BaseHash, hash), "it belongs to the base that it was trained on")
	}
	return nil
}
