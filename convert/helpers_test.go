package convert

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"hash/fnv"
	"io"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"sync"
	"testing"

	"finetune/convert/safetensors"
	"finetune/gguf"
	"finetune/internal/near"
	"finetune/internal/testmodel"
	"finetune/quant/plain"
)

// tinyModels writes a model of every architecture that there is, once for all tests,
// and returns the paths by name.
var tinyModels = sync.OnceValues(func() (map[string]string, error) {
	paths := map[string]string{}
	for _, arch := range testmodel.Architectures() {
		paths[arch] = filepath.Join(models, arch+".gguf")
		if err := testmodel.Write(paths[arch], testmodel.Spec{Arch: arch}); err != nil {
			return nil, err
		}
	}
	for i, v := range testmodel.Variants() {
		if v.Unconverted {
			continue
		}
		paths[v.Name] = filepath.Join(models, fmt.Sprintf("variant%d.gguf", i))
		if err := v.Write(paths[v.Name]); err != nil {
			return nil, err
		}
	}
	for _, v := range testmodel.Encoders() {
		if v.Name != "bert with three projections" { // as llama.cpp's script writes them
			continue
		}
		paths[v.Name] = filepath.Join(models, "bert.gguf")
		if err := v.Write(paths[v.Name]); err != nil {
			return nil, err
		}
	}
	return paths, nil
})

// models is the folder of tinyModels.
var models string

func TestMain(m *testing.M) {
	var err error
	if models, err = os.MkdirTemp("", "convert"); err != nil {
		panic(err)
	}
	code := m.Run()
	os.RemoveAll(models)
	os.Exit(code)
}

func everyModel(t *testing.T) map[string]string {
	t.Helper()
	paths, err := tinyModels()
	if err != nil {
		t.Fatal(err)
	}
	return paths
}

func tinyLlama(t *testing.T) string {
	t.Helper()
	return testmodel.Path(t, testmodel.Spec{Layers: 3})
}

func mustModel(t *testing.T, path string) *baseModel {
	t.Helper()
	m, err := openModel(path)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// noise is n numbers of order one that depend on a name.
func noise(name string, n int) []float32 {
	h := fnv.New64a()
	io.WriteString(h, name)
	random := rand.New(rand.NewPCG(7, h.Sum64()))
	v := make([]float32, n)
	for i := range v {
		v[i] = float32(random.NormFloat64())
	}
	return v
}

// folder is an adapter's folder in the making: the tensors, and what is written of
// them; the settings.
type folder struct {
	weights string
	dtype   safetensors.DType
	shapes  map[string][]int64
	config  map[string]any
}

// peftFolder is an adapter on the modules that want accepts, of rank r and alpha 16.
func peftFolder(m *baseModel, r int, want func(mod module) bool) folder {
	f := folder{peftWeights, safetensors.F32, map[string][]int64{}, map[string]any{
		"peft_type": "LORA", "task_type": "CAUSAL_LM", "r": r, "lora_alpha": 16, "base_model_name_or_path": "some/model"}}
	for _, mod := range m.modules {
		if !want(mod) || mod.embedding && m.tied {
			continue
		}
		f.add(mod.name, r, mod)
	}
	return f
}

func (f folder) add(module string, r int, mod module) {
	suffixes := peftSuffixes[0]
	if mod.embedding {
		suffixes = peftSuffixes[1]
	}
	f.shapes[peftPrefix+module+suffixes[0]] = []int64{int64(r), int64(mod.in)}
	f.shapes[peftPrefix+module+suffixes[1]] = []int64{int64(mod.out), int64(r)}
}

func everySite(module) bool { return true }

// write writes the folder with numbers that depend on the tensors' names.
func (f folder) write(t *testing.T) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "adapter")
	if err := os.Mkdir(dir, 0o777); err != nil {
		t.Fatal(err)
	}
	b := safetensors.NewBuilder(map[string]string{"format": "pt"})
	for name, shape := range f.shapes {
		n := 1
		for _, m := range shape {
			n *= int(m)
		}
		data, err := plain.Append(nil, dtypes[f.dtype], noise(name, n))
		if err != nil {
			t.Fatal(err)
		}
		b.Add(name, f.dtype, shape, func() ([]byte, error) { return data, nil })
	}
	var file bytes.Buffer
	if _, err := b.WriteTo(&file); err != nil {
		t.Fatal(err)
	}
	writeFile(t, filepath.Join(dir, f.weights), file.Bytes())
	text, err := json.Marshal(f.config)
	if err != nil {
		t.Fatal(err)
	}
	writeFile(t, filepath.Join(dir, configFile), text)
	return dir
}

func writeFile(t *testing.T, path string, data []byte) {
	t.Helper()
	if err := os.WriteFile(path, data, 0o666); err != nil {
		t.Fatal(err)
	}
}

func readFile(t *testing.T, path string) []byte {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

// mustRun converts into a fresh folder and returns where to.
func mustRun(t *testing.T, from string, to Format, model string) (string, *Report) {
	t.Helper()
	out := filepath.Join(t.TempDir(), "out")
	r, err := Run(Config{From: from, To: to, Model: model, Out: out})
	if err != nil {
		t.Fatalf("Run(%s to %s) = %v, want no error", filepath.Base(from), to, err)
	}
	return out, r
}

// ggufTensors are the types, shapes and bytes of a file.
func ggufTensors(t *testing.T, path string) map[string]string {
	t.Helper()
	f, err := gguf.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	all := map[string]string{}
	for _, tensor := range f.Tensors() {
		data, err := f.Data(tensor.Name)
		if err != nil {
			t.Fatal(err)
		}
		all[tensor.Name] = fmt.Sprintf("%s %v %x", tensor.Type, tensor.Shape, data)
	}
	return all
}

// sameTensors compares two GGUF files but for their keys.
func sameTensors(t *testing.T, got, want string) {
	t.Helper()
	a, b := ggufTensors(t, got), ggufTensors(t, want)
	if len(a) != len(b) {
		t.Errorf("%d tensors, want %d", len(a), len(b))
	}
	for name := range b {
		if a[name] != b[name] {
			t.Errorf("tensor %q: %.60s, want %.60s", name, a[name], b[name])
		}
	}
}

// sameFile compares two files byte for byte.
func sameFile(t *testing.T, got, want string) {
	t.Helper()
	if !bytes.Equal(readFile(t, got), readFile(t, want)) {
		t.Errorf("%q differs from %q", got, want)
	}
}

// deltas are ΔW = scale·B·A of every module that an adapter's file is on, in float64,
// by module: [out*in].
func deltas(t *testing.T, path string, m *baseModel) map[string][]float64 {
	t.Helper()
	format, err := formatOf(path)
	if err != nil {
		t.Fatal(err)
	}
	l, err := readers[format](path, m, &Report{})
	if err != nil {
		t.Fatal(err)
	}
	defer l.close()
	all := map[string][]float64{}
	for name, p := range l.pairs {
		a, errA := p.a.floats()
		b, errB := p.b.floats()
		if errA != nil || errB != nil {
			t.Fatal(errA, errB)
		}
		delta := make([]float64, p.b.rows*p.a.cols)
		for i := range p.b.rows {
			for k := range p.rank() {
				for j := range p.a.cols {
					delta[i*p.a.cols+j] += p.scale * float64(b[i*p.rank()+k]) * float64(a[k*p.a.cols+j])
				}
			}
		}
		all[name] = delta
	}
	return all
}

// sameDeltas compares the effects of two adapters, to a rounding of each factor.
func sameDeltas(t *testing.T, got, want map[string][]float64) {
	t.Helper()
	const rounding = 1.0 / (1 << 20) // of B once, of alpha once, in float32 with some room
	if len(got) != len(want) {
		t.Errorf("%d modules, want %d", len(got), len(want))
	}
	for name, w := range want {
		if off := near.Share(got[name], w); off > rounding {
			t.Errorf("module %q: %d elements of ΔW are off by %g, want %d within %g", name, len(got[name]), off, len(w), rounding)
		}
	}
}

func f32(v ...float32) []byte {
	var b []byte
	for _, x := range v {
		b = binary.LittleEndian.AppendUint32(b, math.Float32bits(x))
	}
	return b
}

// gpt2Header writes a model with the shapes of GPT-2 and nothing in it, in the
// smallest type there is.
func gpt2Header(t *testing.T) string {
	t.Helper()
	b := gguf.NewBuilder()
	b.Set("general.architecture", "gpt2")
	b.Set("general.name", "gpt2")
	b.Set("gpt2.attention.head_count", uint32(12))
	add := func(name string, in, out int64) {
		b.AddTensorFunc(name, gguf.TypeTQ1_0, []int64{in, out}, func(w io.Writer) error {
			n, err := gguf.TypeTQ1_0.RowBytes(in * out)
			if err != nil {
				return err
			}
			_, err = w.Write(make([]byte, n))
			return err
		})
	}
	const embd = 768
	add("token_embd.weight", embd, 16)
	for i := range 12 {
		block := fmt.Sprintf("blk.%d.", i)
		add(block+"attn_qkv.weight", embd, 3*embd)
		add(block+"attn_output.weight", embd, embd)
		add(block+"ffn_up.weight", embd, 4*embd)
		add(block+"ffn_down.weight", 4*embd, embd)
	}
	path := filepath.Join(t.TempDir(), "gpt2.gguf")
	if err := b.WriteFile(path); err != nil {
		t.Fatal(err)
	}
	return path
}
