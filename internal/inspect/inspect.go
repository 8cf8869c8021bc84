// Package inspect describes what a file or folder of this project holds: a
// model, an adapter or a run. Of a model it reads the header only; of an adapter
// the factors too, and says what they amount to.
package inspect

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"

	"finetune/gguf"
	"finetune/internal/hint"
	"finetune/run"
)

// The kinds of what can be inspected.
const (
	KindModel   = "model"
	KindAdapter = "adapter"
	KindRun     = "run"
)

// Report is the description. Its JSON form is what scripts read: fields may be
// added, these names stay.
type Report struct {
	Path         string         `json:"path"`
	Kind         string         `json:"kind"`         // KindModel, KindAdapter or KindRun
	Architecture string         `json:"architecture"` // general.architecture; empty for a run that is not finished
	Parameters   int64          `json:"parameters"`   // elements of all tensors
	Bytes        int64          `json:"bytes"`        // tensor data, without padding
	Types        []TypeShare    `json:"types"`        // the quantization mix, the largest share first
	Tensors      []Tensor       `json:"tensors"`      // in file order
	Metadata     map[string]any `json:"metadata"`     // see shorten; for a run its settings

	Format  *Format   `json:"format,omitempty"`  // of a GGUF file
	Run     *RunState `json:"run,omitempty"`     // of a run directory
	Adapter *Adapter  `json:"adapter,omitempty"` // of an adapter, by itself or of a run
	Note    string    `json:"note,omitempty"`    // why there is no Adapter where one would be
	keys    []string  // of Metadata, in file order
}

// TypeShare is the part of a file that has one tensor type.
type TypeShare struct {
	Type     string `json:"type"` // ggml's name, such as q4_K
	Tensors  int    `json:"tensors"`
	Elements int64  `json:"elements"`
	Bytes    int64  `json:"bytes"`
}

// Tensor describes one tensor.
type Tensor struct {
	Name  string  `json:"name"`
	Type  string  `json:"type"`
	Shape []int64 `json:"shape"` // ggml's ne, fastest dimension first
	Bytes int64   `json:"bytes"`
}

// Format is how a GGUF file is laid out.
type Format struct {
	Version   int    `json:"version"`
	ByteOrder string `json:"byte_order"` // LittleEndian or BigEndian
	Alignment int64  `json:"alignment"`
	Parts     int    `json:"parts"` // files, more than 1 for a split model
}

// RunState is how far a run has come.
type RunState struct {
	Checkpoints []int `json:"checkpoints"` // steps, ascending
	Finished    bool  `json:"finished"`    // adapter.gguf or model.gguf is there
}

// Options say how much is worked out.
type Options struct {
	// Spectrum asks for singular values also where that takes long: of Dual LoRAs,
	// and of LoRAs of a high rank.
	Spectrum bool
	// Progress, if not nil, is called after each weight of an adapter.
	Progress func(done, total int)
}

// Path describes the file or folder at path. Errors of the file system, of package
// gguf and of adapter.Read pass through; a folder without a run is an error with a
// hint. An adapter of a kind that package adapter does not handle is described by
// its header, with a note.
func Path(ctx context.Context, path string, o Options) (*Report, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	if info.IsDir() {
		return ofRun(ctx, path, o)
	}
	return file(ctx, path, o)
}

// Keys returns the keys of Metadata in the order of the file.
func (r *Report) Keys() []string { return r.keys }

// file describes a GGUF file.
func file(ctx context.Context, path string, o Options) (*Report, error) {
	f, err := gguf.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	r := &Report{
		Path:         path,
		Kind:         KindModel,
		Architecture: f.Architecture(),
		Types:        []TypeShare{},
		Tensors:      []Tensor{},
		Metadata:     map[string]any{},
		Format:       &Format{f.Version(), f.ByteOrder().String(), f.Alignment(), len(f.Paths())},
	}
	if kind, err := f.String("general.type"); err == nil && kind == KindAdapter {
		r.Kind = KindAdapter
	}
	for _, kv := range f.KVs() {
		r.set(kv.Key, shorten(kv.Value))
	}
	r.addTensors(f.Tensors())
	if r.Kind == KindAdapter {
		return r, r.addAdapter(ctx, f, o)
	}
	return r, nil
}

// set adds a metadata value.
func (r *Report) set(key string, value any) {
	r.keys = append(r.keys, key)
	r.Metadata[key] = value
}

// addTensors fills in the tensors and the figures that are sums over them.
func (r *Report) addTensors(tensors []gguf.Tensor) {
	shares := map[gguf.Type]*TypeShare{}
	for _, t := range tensors {
		r.Tensors = append(r.Tensors, Tensor{t.Name, t.Type.String(), t.Shape, t.Bytes()})
		r.Parameters += t.Elements()
		r.Bytes += t.Bytes()
		share := shares[t.Type]
		if share == nil {
			share = &TypeShare{Type: t.Type.String()}
			shares[t.Type] = share
		}
		share.Tensors++
		share.Elements += t.Elements()
		share.Bytes += t.Bytes()
	}
	for _, share := range shares {
		r.Types = append(r.Types, *share)
	}
	slices.SortFunc(r.Types, func(a, b TypeShare) int {
		return cmp.Or(cmp.Compare(b.Elements, a.Elements), cmp.Compare(a.Type, b.Type))
	})
}

// ofRun describes a run directory. It takes no lock: the run may be going on.
func ofRun(ctx context.Context, dir string, o Options) (*Report, error) {
	config, err := run.LoadSaved(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, hint.With(fmt.Errorf("%q: a folder without %s: %w", dir, run.ConfigFile, fs.ErrNotExist),
			"give a GGUF file, or the --out folder of finetune train")
	}
	if err != nil {
		return nil, err
	}
	r := &Report{Path: dir, Types: []TypeShare{}, Tensors: []Tensor{}}
	state := &RunState{}
	result, err := file(ctx, filepath.Join(dir, config.ResultFile()), o)
	switch {
	case err == nil:
		r, state.Finished = result, true
	case !errors.Is(err, fs.ErrNotExist):
		return nil, err
	}
	r.Path, r.Kind, r.Run = dir, KindRun, state
	if state.Checkpoints, err = run.ListCheckpoints(dir); err != nil {
		return nil, err
	}
	return r, r.setConfig(config)
}

// setConfig makes the settings of a run its metadata, in the order of the file.
func (r *Report) setConfig(c run.Config) error {
	r.keys, r.Metadata = nil, map[string]any{}
	settings, err := c.Settings()
	for _, s := range settings {
		r.set(s.Key, shorten(s.Value))
	}
	return err
}
