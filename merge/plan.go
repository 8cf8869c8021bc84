package merge

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"path/filepath"

	"finetune/adapter"
	"finetune/classify"
	"finetune/gguf"
	"finetune/imatrix"
	"finetune/internal/hint"
	"finetune/internal/output"
	"finetune/model"
	"finetune/quant"
)

// merger is a merge that has been planned: nothing is left that could be refused.
type merger struct {
	Config
	base    *model.Base
	open    []*adapter.File
	head    *classify.Head     // nil: none
	changes map[string]*change // by the tensor's name
	builder *gguf.Builder
	room    room

	ctx      context.Context
	progress func(done, total int)
	done     int
	tensors  []Tensor

	typeErrors map[gguf.Type]float64
}

// change is an adapted tensor.
type change struct {
	gguf.Tensor
	to         gguf.Type
	deltas     []delta
	importance []float32 // [n_in], nil if there is none
}

// delta is what one adapter adds: scale·ΔW.
type delta struct {
	file  *adapter.File
	scale float32
}

func open(c Config) (*merger, error) {
	base, err := model.OpenParts(c.Model)
	if err != nil {
		return nil, err
	}
	if err := base.CheckWeights(); err != nil {
		return nil, errors.Join(err, base.Close())
	}
	m := &merger{Config: c, base: base, changes: map[string]*change{}, typeErrors: map[gguf.Type]float64{}, ctx: context.Background()}
	if err := m.plan(); err != nil {
		return nil, errors.Join(err, m.close())
	}
	return m, nil
}

func (m *merger) plan() error {
	if err := m.addAdapters(); err != nil {
		return err
	}
	if err := m.addClassifier(); err != nil {
		return err
	}
	if err := m.chooseTypes(); err != nil {
		return err
	}
	if err := m.addImportance(); err != nil {
		return err
	}
	if err := m.build(); err != nil {
		return err
	}
	m.base.Forget()
	return m.checkOut()
}

func (m *merger) close() error {
	err := m.base.Close()
	for _, f := range m.open {
		err = errors.Join(err, f.Close())
	}
	return err
}

// addAdapters opens all adapters and notes what each adds to which tensor.
func (m *merger) addAdapters() error {
	if len(m.Adapters) == 0 {
		return errors.New("merge: no adapter to merge")
	}
	base, err := m.base.Identity()
	if err != nil {
		return err
	}
	for _, named := range m.Adapters {
		if !(math.Abs(float64(named.Scale)) <= math.MaxFloat32) {
			return fmt.Errorf("merge: %q: scale %v, want a number", named.Path, named.Scale)
		}
		f, err := adapter.Open(named.Path)
		if err != nil {
			return err
		}
		m.open = append(m.open, f)
		if err := f.CheckBase(base); err != nil && !errors.Is(err, adapter.ErrOtherBase) && !errors.Is(err, adapter.ErrOtherWeights) {
			return fmt.Errorf("merge: %q: %w", named.Path, err)
		}
		for _, name := range f.Names() {
			if _, err := f.Weight(name); err != nil { // its values are looked at before anything is written
				return err
			}
			c := m.change(name)
			c.deltas = append(c.deltas, delta{f, named.Scale})
		}
	}
	return nil
}

// change returns the change of a tensor of the base, with nothing added yet.
func (m *merger) change(name string) *change {
	if m.changes[name] == nil {
		t, _ := m.base.Tensor(name) // CheckBase has found it
		m.changes[name] = &change{Tensor: t, to: t.Type}
	}
	return m.changes[name]
}

// chooseTypes gives each adapted tensor the type that it will have.
func (m *merger) chooseTypes() error {
	if m.Type != nil && !quant.CanEncode(*m.Type) {
		return fmt.Errorf("merge: type %s: cannot be encoded", *m.Type)
	}
	for _, t := range m.base.Tensors() {
		c := m.changes[t.Name]
		if c == nil {
			continue
		}
		if m.Type != nil {
			c.to = fitting(*m.Type, t.Shape[0])
		}
		if !quant.CanDecode(t.Type) || !quant.CanEncode(c.to) {
			return hint.With(fmt.Errorf("merge: tensor %q: type %s cannot be decoded and encoded again", t.Name, t.Type),
				"an adapter goes on a weight of numbers, such as f16 or q4_K")
		}
		if scale := m.base.ScaleApart(t.Name); scale != "" {
			return fmt.Errorf("merge: tensor %q: has a scale apart, %q, which no adapter can be merged with", t.Name, scale)
		}
	}
	return nil
}

// addImportance finds the importance of the columns of each adapted tensor, where there
// is one, and refuses types that cannot do without.
func (m *merger) addImportance() error {
	entries := map[string]imatrix.Entry{}
	if m.IMatrix != "" {
		matrix, err := imatrix.Load(m.IMatrix)
		if err != nil {
			return err
		}
		entries = matrix.Entries
	}
	for _, t := range m.base.Tensors() {
		c := m.changes[t.Name]
		if c == nil {
			continue
		}
		if e, ok := entries[t.Name]; ok {
			if len(e.Sum2) != int(t.Shape[0]) {
				return fmt.Errorf("merge: %q: weight %q: importance of %d inputs, the model has %d", m.IMatrix, t.Name, len(e.Sum2), t.Shape[0])
			}
			c.importance = e.MeanSquares()
		}
		if quant.NeedsImportance(c.to) && c.importance == nil {
			return hint.With(fmt.Errorf("merge: tensor %q: type %s needs an importance matrix, and there is none for it", t.Name, c.to),
				"--imatrix FILE gives one; --type iq4_xs and those of more bits do without")
		}
	}
	return nil
}

// build lays out the file: the base's, with other data and types for what is adapted, and a classifier behind it.
func (m *merger) build() error {
	m.builder = gguf.NewBuilder()
	m.builder.SetAll(m.base.KVs())
	m.setFileType()
	total := len(m.base.Tensors())
	for _, t := range m.base.Tensors() {
		if m.head != nil && classify.Replaces(t.Name) {
			continue
		}
		kind, write := t.Type, func(w io.Writer) error { return m.copy(w, t) }
		if c := m.changes[t.Name]; c != nil {
			kind, write = c.to, func(w io.Writer) error { return m.merge(w, c) }
		}
		m.builder.AddTensorFunc(t.Name, kind, t.Shape, func(w io.Writer) error {
			if err := write(w); err != nil {
				return err
			}
			if m.done++; m.progress != nil {
				m.progress(m.done, total)
			}
			return nil
		})
	}
	if m.head != nil {
		return m.head.AddTo(m.builder)
	}
	return nil
}

// addClassifier reads the classifier, if there is one, and refuses one of another base.
func (m *merger) addClassifier() error {
	if m.Classifier == "" {
		return nil
	}
	h, err := classify.Load(m.Classifier)
	if err != nil {
		return err
	}
	id, err := m.base.Identity()
	if err != nil {
		return err
	}
	if err := errors.Join(h.CheckBase(id.Architecture, id.Hash, width(m.base)), h.CheckMerge()); err != nil {
		return fmt.Errorf("merge: %q: %w", m.Classifier, err)
	}
	m.head = h
	return nil
}

// checkOut refuses to write over what the file is made of, and where no file can be.
func (m *merger) checkOut() error {
	if info, err := os.Stat(filepath.Dir(m.Out)); err != nil {
		return err
	} else if !info.IsDir() {
		return fmt.Errorf("merge: %q: is not a folder", filepath.Dir(m.Out))
	}
	paths, err := m.builder.SplitPaths(m.Out, m.partBytes())
	if err != nil {
		return err
	}
	for _, path := range paths {
		if err := (output.Target{Path: path, Force: m.Force, Inputs: m.sources()}).Check(); err != nil {
			return fmt.Errorf("merge: %w", err)
		}
	}
	return nil
}

// sources returns all files that are read.
func (m *merger) sources() []string {
	all := m.base.Paths()
	for _, a := range m.Adapters {
		all = append(all, a.Path)
	}
	for _, path := range []string{m.IMatrix, m.Classifier} {
		if path != "" {
			all = append(all, path)
		}
	}
	return all
}

// width returns the numbers of a state.
func width(base *model.Base) int {
	n, _ := base.Uint(base.Architecture() + ".embedding_length") // which model.OpenParts has looked at
	return int(n)
}
