package adapter

import (
	"fmt"

	"finetune/gguf"
	"finetune/model"
)

// File is an adapter file that is open, for who needs one weight at a time and not all
// in memory, as [Load] gives them. One goroutine at a time.
type File struct {
	loader  *loader
	kind    *fileKind
	outline *Adapter // without the factors' data
}

// Open reads the header of a file that [Load] reads, and returns its errors, but for
// those of the factors' values, which [File.Weight] finds. The caller closes the File.
func Open(path string) (*File, error) {
	g, err := gguf.Open(path)
	if err != nil {
		return nil, err
	}
	f := &File{loader: newLoader(g)}
	if err := f.read(); err != nil {
		g.Close()
		return nil, err
	}
	return f, nil
}

func (f *File) read() (err error) {
	if f.kind, err = f.loader.index(); err != nil {
		return err
	}
	f.loader.read = f.loader.outline
	f.outline, err = f.loader.adapter(f.kind)
	f.loader.read = f.loader.matrix
	return err
}

// Close closes the file. A second Close does nothing.
func (f *File) Close() error { return f.loader.f.Close() }

// Names lists the adapted weights, by block, then by name.
func (f *File) Names() []string {
	var names []string
	for _, w := range f.outline.Weights {
		names = append(names, w.Name)
	}
	return names
}

// CheckBase does what [Adapter.CheckBase] does.
func (f *File) CheckBase(b model.Identity) error { return f.outline.CheckBase(b) }

// Weight reads the factors of a weight, which share nothing with the file.
func (f *File) Weight(name string) (Weight, error) {
	if f.loader.factors[name] == nil {
		return Weight{}, fmt.Errorf("adapter: %q: weight %q: not in the file", f.loader.f.Path(), name)
	}
	defer f.loader.f.Forget()
	factors, err := f.loader.weight(f.kind, name)
	return Weight{name, factors}, err
}
