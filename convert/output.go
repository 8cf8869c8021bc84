package convert

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"

	"finetune/convert/safetensors"
	"finetune/gguf"
	"finetune/internal/atomicfile"
	"finetune/internal/hint"
	"finetune/internal/output"
)

// Files of the folders.
const (
	configFile  = "adapter_config.json"
	peftWeights = "adapter_model.safetensors"
	peftPickle  = "adapter_model.bin"
	mlxWeights  = "adapters.safetensors"
	readmeFile  = "README.md"
)

// formatOf tells what an adapter is: a file is a GGUF, a folder is known by the
// weights in it.
func formatOf(path string) (Format, error) {
	info, err := os.Stat(path)
	switch {
	case err != nil:
		return "", err
	case !info.IsDir() && slices.Contains([]string{".safetensors", ".json", ".bin"}, filepath.Ext(path)):
		return "", hint.With(&FormatError{path, "is one file of an adapter's folder"}, "give the folder: "+filepath.Dir(path))
	case !info.IsDir():
		return GGUF, checkDownload(path)
	}
	has := func(name string) bool { _, err := os.Stat(filepath.Join(path, name)); return err == nil }
	switch {
	case has(peftWeights):
		return PEFT, nil
	case has(mlxWeights):
		return MLX, nil
	case has(peftPickle):
		return "", hint.With(&UnsupportedError{path, peftPickle + " is a pickle, which can hold programs; only safetensors are read"},
			"load it in PEFT and save it again, with safe_serialization=True")
	case has("config.yaml"):
		return "", hint.With(&FormatError{path, "is a run directory of finetune, want an adapter"},
			fmt.Sprintf("finetune export --run %s --out adapter.gguf writes one", path))
	}
	if inner, err := transformerOf(path); err != nil {
		return "", err
	} else if inner != path {
		return formatOf(inner)
	}
	if newest := newestCheckpoint(path); newest != "" {
		return "", hint.With(&FormatError{path, "is a training's folder, with adapters in its checkpoints"}, "the newest is "+newest)
	}
	err = &FormatError{path, fmt.Sprintf("holds neither %s (PEFT) nor %s (MLX)", peftWeights, mlxWeights)}
	if inner, _ := filepath.Glob(filepath.Join(escapeGlob(path), "*", peftWeights)); len(inner) == 1 {
		err = hint.With(err, "there is an adapter in "+filepath.Dir(inner[0]))
	}
	return "", err
}

// escapeGlob keeps the signs of a path from being read as a pattern.
func escapeGlob(path string) string {
	var b []rune
	for _, c := range path {
		if slices.Contains([]rune(`*?[\`), c) && os.PathSeparator != '\\' {
			b = append(b, '\\')
		}
		b = append(b, c)
	}
	return string(b)
}

// checkOut refuses what would be written over, before anything is read.
func (c Config) checkOut(from Format) error {
	if from == c.To {
		return fmt.Errorf("convert: %q: is %s already", c.From, c.To)
	}
	t := output.Target{Path: c.Out, Folder: c.To != GGUF, Force: c.Force, Inputs: []string{c.From, c.Model}}
	if err := t.Check(); err != nil {
		return fmt.Errorf("convert: %w", err)
	}
	if _, err := os.Stat(c.Out); c.To == GGUF || errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return checkFolder(c.Out)
}

// checkFolder lets a folder be replaced only if it holds an adapter and nothing else.
func checkFolder(path string) error {
	entries, err := os.ReadDir(path)
	if err != nil {
		return err
	}
	for _, e := range entries {
		if e.IsDir() || !slices.Contains([]string{configFile, peftWeights, mlxWeights, readmeFile}, e.Name()) {
			return hint.With(fmt.Errorf("convert: %q: holds %q, which is no part of an adapter", path, e.Name()), "choose another --out")
		}
	}
	return nil
}

// writeFolder writes the two files of a PEFT or MLX folder.
func writeFolder(path, weightsName string, weights *safetensors.Builder, config []byte) error {
	return atomicfile.WriteDir(path, func(dir string) error {
		err := atomicfile.Write(filepath.Join(dir, weightsName), func(w io.Writer) error {
			_, err := weights.WriteTo(w)
			return err
		})
		if err != nil {
			return err
		}
		return atomicfile.Write(filepath.Join(dir, configFile), func(w io.Writer) error {
			_, err := w.Write(config)
			return err
		})
	})
}

// dtypes are the types that safetensors and GGUF share.
var dtypes = map[safetensors.DType]gguf.Type{
	safetensors.F32: gguf.TypeF32, safetensors.F16: gguf.TypeF16, safetensors.BF16: gguf.TypeBF16,
}

func dtypeOf(t gguf.Type) safetensors.DType {
	for d, typ := range dtypes {
		if typ == t {
			return d
		}
	}
	panic(fmt.Sprintf("convert: internal error: type %s in safetensors", t))
}

// tensorMatrices reads a tensor [rows][cols], or [n][rows][cols] as n matrices, and
// checks that its numbers are numbers.
func tensorMatrices(f *safetensors.File, t safetensors.Tensor) ([]matrix, error) {
	shape := t.Shape
	if len(shape) == 2 {
		shape = []int64{1, shape[0], shape[1]}
	}
	if len(shape) != 3 || slices.Min(shape) < 1 {
		return nil, &FormatError{f.Path(), fmt.Sprintf("tensor %q: shape %v, want a matrix", t.Name, t.Shape)}
	}
	size := t.Bytes() / shape[0]
	var all []matrix
	for i := range shape[0] {
		m := matrix{dtypes[t.DType], int(shape[1]), int(shape[2]), func() ([]byte, error) {
			return f.Part(t.Name, i*size, (i+1)*size)
		}}
		if err := m.checkFinite(f.Path(), t.Name); err != nil {
			return nil, err
		}
		all = append(all, m)
	}
	return all, nil
}

// addMatrices adds a matrix, or several as one tensor.
func addMatrices(b *safetensors.Builder, name string, ms []matrix, stack bool) {
	shape := []int64{int64(ms[0].rows), int64(ms[0].cols)}
	if stack {
		shape = append([]int64{int64(len(ms))}, shape...)
	}
	b.Add(name, dtypeOf(ms[0].typ), shape, stacked(ms).read)
}

// IsFolder reports whether path is a folder that holds an adapter of PEFT or MLX, or one of sentence-transformers around it.
func IsFolder(path string) bool {
	dir, err := transformerOf(path)
	if err != nil {
		return false
	}
	info, err := os.Stat(filepath.Join(dir, configFile))
	return err == nil && info.Mode().IsRegular()
}
