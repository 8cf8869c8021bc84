package adapter

import (
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"

	"finetune/gguf"
	"finetune/quant/plain"
)

// Load reads an adapter file: a container that [Adapter.Save] writes, or any GGUF
// LoRA, whoever made it, with factors in F32, F16, BF16 or Q8_0 and a rank of its own
// for each weight.
//
// As in llama.cpp, tensors named *_norm.weight are skipped. A LoRA of token_embd.weight, which is stored the other way
// round (lora_a [rank, n_vocab], lora_b [rank, n_embd]), is turned to what it is for other weights. Other factors of it, and
// pairs of expert weights, are an [*UnsupportedError].
func Load(path string) (*Adapter, error) {
	f, err := gguf.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return Read(f)
}

// Read does what [Load] does, from a file that is open. It keeps nothing of f.
func Read(f *gguf.File) (*Adapter, error) {
	l := newLoader(f)
	kind, err := l.index()
	if err != nil {
		return nil, err
	}
	return l.adapter(kind)
}

// index finds the kind of the file, and what belongs to which weight.
func (l *loader) index() (*fileKind, error) {
	kind, err := l.kind()
	if err != nil {
		return kind, err
	}
	if err := l.alpha(kind); err != nil {
		return kind, err
	}
	for _, t := range l.f.Tensors() {
		if err := l.tensor(t, kind); err != nil {
			return kind, err
		}
	}
	return kind, nil
}

type loader struct {
	f         *gguf.File
	fileAlpha float32
	factors   map[string]map[string]gguf.Tensor // by weight, then by suffix
	order     []string                          // of the weights
	read      func(gguf.Tensor) (Mat, error)    // matrix, or outline
}

func newLoader(f *gguf.File) *loader {
	l := &loader{f: f, factors: map[string]map[string]gguf.Tensor{}}
	l.read = l.matrix
	return l
}

func (l *loader) format(format string, args ...any) error {
	return &FormatError{l.f.Path(), fmt.Sprintf(format, args...)}
}

func (l *loader) unsupported(format string, args ...any) error {
	return &UnsupportedError{l.f.Path(), fmt.Sprintf(format, args...)}
}

func (l *loader) kind() (*fileKind, error) {
	if general, _ := l.f.String(KeyType); general != "adapter" {
		return nil, l.format("general.type is %q, want \"adapter\"", general)
	}
	if l.f.Architecture() == "" {
		return nil, l.format("general.architecture is missing")
	}
	name, _ := l.f.String(KeyKind)
	if kind, ok := kindCalled(name); ok {
		return kind, nil
	}
	return nil, l.unsupported("adapter.type is %q, want %s", name, quoted(fileTypes()))
}

func (l *loader) alpha(kind *fileKind) error {
	alpha, err := l.f.Float(kind.alphaKey)
	switch {
	case errors.Is(err, gguf.ErrNoKey):
		return nil
	case err != nil:
		return err
	case !finite(float32(alpha)):
		return l.format("%s is %v", kind.alphaKey, alpha)
	}
	l.fileAlpha = float32(alpha)
	return nil
}

// tensor files one tensor under its weight and suffix.
func (l *loader) tensor(t gguf.Tensor, kind *fileKind) error {
	dot := strings.LastIndexByte(t.Name, '.')
	weight, suffix := t.Name[:max(dot, 0)], t.Name[dot+1:]
	switch {
	case strings.HasSuffix(t.Name, "_norm.weight"):
		return nil
	case !slices.Contains(kind.suffixes(), suffix):
		return l.format("tensor %q: want a name that ends in %s", t.Name, strings.Join(kind.suffixes(), ", "))
	case isEmbedding(weight) && kind.method != MethodLoRA:
		return l.unsupported("tensor %q: embeddings can be adapted by a LoRA only", t.Name)
	}
	if l.factors[weight] == nil {
		l.factors[weight] = map[string]gguf.Tensor{}
		l.order = append(l.order, weight)
	}
	l.factors[weight][suffix] = t
	return nil
}

// outline returns a factor without its data. One dimension is a rank of 1 whose last
// dimension ggml has dropped.
func (l *loader) outline(t gguf.Tensor) (Mat, error) {
	rows := int64(1)
	if len(t.Shape) > 1 {
		rows = t.Shape[1]
	}
	switch {
	case t.Elements() == 0:
		return Mat{}, l.format("tensor %q: shape %v is empty", t.Name, t.Shape)
	case t.Elements() != t.Shape[0]*rows:
		return Mat{}, l.unsupported("tensor %q: shape %v, adapted experts are not supported", t.Name, t.Shape)
	case !plain.Supports(t.Type):
		return Mat{}, l.unsupported("tensor %q: type %s, want f32, f16, bf16 or q8_0", t.Name, t.Type)
	}
	return Mat{NE: [2]int{int(t.Shape[0]), int(rows)}}, nil
}

// matrix decodes a factor.
func (l *loader) matrix(t gguf.Tensor) (Mat, error) {
	m, err := l.outline(t)
	if err != nil {
		return Mat{}, err
	}
	data, err := l.f.Data(t.Name)
	if err != nil {
		return Mat{}, err
	}
	m.Data = make([]float32, t.Elements())
	if err := plain.Decode(t.Type, data, m.Data); err != nil {
		return Mat{}, err
	}
	if i, bad := firstNotFinite(m.Data); bad {
		return Mat{}, l.format("tensor %q: element %d is %v", t.Name, i, m.Data[i])
	}
	return m, nil
}

func (l *loader) adapter(kind *fileKind) (*Adapter, error) {
	a := &Adapter{Architecture: l.f.Architecture(), Meta: map[string]gguf.Value{}}
	a.BaseName, _ = l.f.String(KeyBaseName)
	a.BaseHash, _ = l.f.String(KeyBaseHash)
	for _, kv := range l.f.KVs() {
		if !reserved(kv.Key) {
			a.Meta[kv.Key] = kv.Value
		}
	}
	a.Type = l.typeOf(kind)
	for _, weight := range l.order {
		f, err := l.weight(kind, weight)
		if err != nil {
			return nil, err
		}
		a.Weights = append(a.Weights, Weight{weight, f})
	}
	if a.Weights == nil {
		return nil, l.format("has no factors")
	}
	a.sort()
	return a, nil
}

// typeOf returns the type that written again gives every factor the type it has, else
// F32.
func (l *loader) typeOf(kind *fileKind) gguf.Type {
	suffixes := kind.suffixes()
	for _, t := range []gguf.Type{gguf.TypeQ8_0, gguf.TypeF16, gguf.TypeBF16} {
		other := func(tensor gguf.Tensor) bool {
			dot := strings.LastIndexByte(tensor.Name, '.')
			return slices.Contains(suffixes, tensor.Name[dot+1:]) && tensor.Type != typeFor(t, int(tensor.Shape[0]))
		}
		if !slices.ContainsFunc(l.f.Tensors(), other) {
			return t
		}
	}
	return gguf.TypeF32
}

// weight joins the factors of one weight and checks that their shapes agree.
func (l *loader) weight(kind *fileKind, weight string) (Factors, error) {
	var mats []Mat
	for _, suffix := range kind.suffixes() {
		t, ok := l.factors[weight][suffix]
		if !ok {
			return nil, l.format("tensor %q: %s is missing", weight, suffix)
		}
		m, err := l.read(t)
		if err != nil {
			return nil, err
		}
		mats = append(mats, m)
	}
	if isEmbedding(weight) {
		mats[0], mats[1] = mats[1].transposed(), mats[0]
	}
	if wrong := kind.check(mats); wrong != "" {
		return nil, l.format("tensor %q: %s", weight, wrong)
	}
	return kind.join(mats, l.fileAlpha), nil
}

// isEmbedding reports whether a weight is the table of embeddings.
func isEmbedding(weight string) bool { return strings.HasSuffix(weight, "token_embd.weight") }

// transposed is the matrix with rows for columns; an outline stays one.
func (m Mat) transposed() Mat {
	t := Mat{NE: [2]int{m.NE[1], m.NE[0]}}
	if m.Data == nil {
		return t
	}
	t.Data = make([]float32, len(m.Data))
	for row := range m.NE[1] {
		for col := range m.NE[0] {
			t.Data[col*m.NE[1]+row] = m.Data[row*m.NE[0]+col]
		}
	}
	return t
}

func finite(v float32) bool { return math.Abs(float64(v)) <= math.MaxFloat32 }

func firstNotFinite(vs []float32) (int, bool) {
	for i, v := range vs {
		if !finite(v) {
			return i, true
		}
	}
	return 0, false
}
