package merge

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"math"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"finetune/adapter"
	"finetune/gguf"
	"finetune/imatrix"
	"finetune/internal/hint"
	"finetune/internal/near"
	"finetune/internal/need"
	"finetune/internal/testmodel"
	"finetune/quant"
)

// TestOnlyTheDataOfAdaptedTensorsDiffers compares whole files, byte by byte.
func TestOnlyTheDataOfAdaptedTensorsDiffers(t *testing.T) {
	base := quantized(t, "q4_k_m")
	lora := random(t, base, adapter.MethodDual, "attn_v|ffn_down", 0.3, 1)
	out := filepath.Join(t.TempDir(), "out.gguf")
	r := mustMerge(t, Config{Model: base, Adapters: []Adapter{{lora, 1}}, Out: out})
	before, err := os.ReadFile(base)
	if err != nil {
		t.Fatal(err)
	}
	after, err := os.ReadFile(out)
	if err != nil {
		t.Fatal(err)
	}
	if len(before) != len(after) || r.Bytes != int64(len(after)) || !reflect.DeepEqual(r.Files, []string{out}) {
		t.Fatalf("%d bytes, reported %d in %q, want %d in %q", len(after), r.Bytes, r.Files, len(before), out)
	}
	f := openModel(t, base)
	embeddings, _ := f.Tensor("token_embd.weight")
	start := int64(bytes.Index(before, mustData(t, f, embeddings.Name))) - embeddings.Offset
	types := map[string]bool{}
	var changed []string
	for _, tensor := range f.Tensors() {
		from := start + tensor.Offset
		to := from + tensor.Bytes()
		if same := bytes.Equal(before[from:to], after[from:to]); !same {
			changed = append(changed, tensor.Name)
			types[tensor.Type.String()] = true
			copy(after[from:to], before[from:to])
		}
	}
	if !bytes.Equal(before, after) {
		t.Error("bytes outside of the tensors' data differ")
	}
	want := []string{"blk.0.attn_v.weight", "blk.0.ffn_down.weight", "blk.1.attn_v.weight", "blk.1.ffn_down.weight"}
	slices.Sort(changed)
	if !slices.Equal(changed, want) || len(r.Tensors) != len(want) {
		t.Errorf("changed %q, %d reported, want %q", changed, len(r.Tensors), want)
	}
	if !types["q4_K"] || !types["q6_K"] {
		t.Errorf("types %v, want a mix of q4_K and q6_K", types)
	}
}

func mustData(t *testing.T, f *gguf.File, name string) []byte {
	t.Helper()
	data, err := f.Data(name)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

// rounding is the relative error of a sum of products in float32, of some ten terms of
// alternating sign.
const rounding = 1e-6

// logitRounding is that of logits, in units of themselves: W·x + s·B·(A·x) and
// (W + s·B·A)·x round differently, and the cache keeps K and V in F16 of 11 bits.
const logitRounding = 1e-3

func TestF32IsTheSumAndSpeaksAlike(t *testing.T) {
	base := testmodel.Path(t, wide)
	lora := Adapter{random(t, base, adapter.MethodLoRA, "all-linear", 0.5, 2), 1}
	second := Adapter{random(t, base, adapter.MethodLoRA, "attn_q|ffn_up", 0.3, 3), -0.5}
	dual := Adapter{random(t, base, adapter.MethodDual, "attention", 0.5, 4), 1.25}
	for _, adapters := range [][]Adapter{{lora}, {lora, second}, {second, dual, lora}} {
		out := filepath.Join(t.TempDir(), "out.gguf")
		r := mustMerge(t, Config{Model: base, Adapters: adapters, Out: out})
		before, after := openModel(t, base), openModel(t, out)
		changed := 0
		for _, tensor := range before.Tensors() {
			delta := deltaOf(t, tensor.Name, adapters)
			if delta == nil {
				continue
			}
			changed++
			w, got := floats(t, before, tensor.Name), floats(t, after, tensor.Name)
			size := rms(w)
			for i := range w {
				if want := float64(w[i]) + delta[i]; !near.Enough(got[i], want, 10*rounding*size) {
					t.Fatalf("%s: element %d is %v, want %v", tensor.Name, i, got[i], want)
				}
			}
		}
		if changed != len(r.Tensors) || changed == 0 {
			t.Errorf("%d tensors reported, want %d", len(r.Tensors), changed)
		}
		for _, m := range r.Tensors {
			if m.Error != 0 || m.Lost != 0 || !near.Enough(m.Kept, 1.0, rounding) || m.TypeError != 0 {
				t.Errorf("%s: report %+v, want nothing lost in f32", m.Name, m)
			}
		}
		if slices.Contains(adapters, dual) {
			continue // llama.cpp has no path for it
		}
		want := logits(t, base, adapters...)
		if d := distance(logits(t, out), want); !near.Enough(d, 0.0, logitRounding*rms(want)) {
			t.Errorf("logits differ by %v of %v", d, rms(want))
		}
		if d := distance(logits(t, base), want); !(d >= 0.05*rms(want)) {
			t.Errorf("the adapters move the logits by %v of %v only: nothing is shown", d, rms(want))
		}
	}
}

// TestReport works the figures out again from the files.
func TestReport(t *testing.T) {
	base := quantized(t, "q4_k_m")
	adapters := []Adapter{{random(t, base, adapter.MethodLoRA, "attn_q", 0.2, 5), 2}}
	out := filepath.Join(t.TempDir(), "out.gguf")
	r := mustMerge(t, Config{Model: base, Adapters: adapters, Out: out})
	before, after := openModel(t, base), openModel(t, out)
	for _, m := range r.Tensors {
		delta := deltaOf(t, m.Name, adapters)
		w, q := floats(t, before, m.Name), floats(t, after, m.Name)
		var lost, change, meant, whole, along float64
		for i, d := range delta {
			v := float64(w[i]) + d
			lost += math.Pow(float64(q[i])-v, 2)
			change += d * d
			meant += v * v
			whole += float64(w[i]) * float64(w[i])
			along += (float64(q[i]) - float64(w[i])) * d
		}
		check := func(what string, got, want float64) {
			if !near.Enough(got, want, 1e-4*want) {
				t.Errorf("%s: %s %v, want %v", m.Name, what, got, want)
			}
		}
		check("change", m.Change, math.Sqrt(change/whole))
		check("error", m.Error, math.Sqrt(lost/meant))
		check("lost", m.Lost, math.Sqrt(lost/change))
		check("kept", m.Kept, along/change)
		if m.Type != "q4_K" || m.BaseType != "q4_K" || m.Weighted || !(m.TypeError >= 0.06 && m.TypeError <= 0.09) {
			t.Errorf("%s: report %+v, want q4_K with its usual error of 7 to 8 %%", m.Name, m)
		}
		if !(m.Error <= 1.2*m.TypeError) || !(m.Kept >= 0.8) {
			t.Errorf("%s: error %v and kept %v, want about the type's %v and 1", m.Name, m.Error, m.Kept, m.TypeError)
		}
	}
}

func TestNoChangeIsTheSameFile(t *testing.T) {
	base := quantized(t, "q3_k_m") // encoding it again would not give the same bytes
	out := filepath.Join(t.TempDir(), "out.gguf")
	r := mustMerge(t, Config{Model: base, Adapters: []Adapter{{random(t, base, adapter.MethodLoRA, "all-linear", 1, 6), 0}}, Out: out})
	if !sameBytes(t, base, out) {
		t.Error("an adapter with scale 0 changes the file")
	}
	for _, m := range r.Tensors {
		if m.Change != 0 || m.Error != 0 || m.Lost != 0 || m.Kept != 1 {
			t.Errorf("%s: report %+v, want no change", m.Name, m)
		}
	}
}

func TestTypes(t *testing.T) {
	narrow := testmodel.Spec{Embd: 64, FF: 344, HeadsKV: 4} // ffn_down has rows of 344, of which no block is a part
	tests := []struct {
		name     string
		spec     testmodel.Spec
		to       gguf.Type
		want     map[string]gguf.Type // by the end of the name
		fileType uint32
	}{
		{"halves", wide, gguf.TypeF16, map[string]gguf.Type{"attn_q.weight": gguf.TypeF16, "ffn_down.weight": gguf.TypeF16, "token_embd.weight": gguf.TypeF32}, 1},
		{"K-quants", wide, gguf.TypeQ4_K, map[string]gguf.Type{"attn_q.weight": gguf.TypeQ4_K, "ffn_down.weight": gguf.TypeQ4_K, "token_embd.weight": gguf.TypeF32}, 15},
		{"rows of 64", narrow, gguf.TypeQ4_K, map[string]gguf.Type{"attn_q.weight": gguf.TypeQ5_0, "ffn_down.weight": gguf.TypeF16}, 8},
		{"rows of 344", narrow, gguf.TypeQ8_0, map[string]gguf.Type{"attn_q.weight": gguf.TypeQ8_0, "ffn_down.weight": gguf.TypeF16}, 7},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			base := testmodel.Path(t, tt.spec)
			lora := Adapter{random(t, base, adapter.MethodLoRA, "all-linear", 0.2, 7), 1}
			out := filepath.Join(t.TempDir(), "out.gguf")
			mustMerge(t, Config{Model: base, Adapters: []Adapter{lora}, Out: out, Type: &tt.to})
			f := openModel(t, out)
			for _, tensor := range f.Tensors() {
				for end, want := range tt.want {
					if strings.HasSuffix(tensor.Name, end) && tensor.Type != want {
						t.Errorf("%s is %s, want %s", tensor.Name, tensor.Type, want)
					}
				}
			}
			if got, err := f.Uint("general.file_type"); err != nil || uint32(got) != tt.fileType {
				t.Errorf("general.file_type = %d, %v, want %d", got, err, tt.fileType)
			}
			// llama.cpp loads it, and it says about what the adapter says
			want := logits(t, base, lora)
			if d := distance(logits(t, out), want); !near.Enough(d, 0.0, 0.3*rms(want)) {
				t.Errorf("logits differ by %v of %v", d, rms(want))
			}
		})
	}
}

// gathered writes an importance matrix in which every eighth input counts much more.
func gathered(t *testing.T, base string, inputs func(n int) int) string {
	t.Helper()
	m := &imatrix.Matrix{Entries: map[string]imatrix.Entry{}}
	for _, tensor := range openModel(t, base).Tensors() {
		if strings.HasPrefix(tensor.Name, "blk.") && len(tensor.Shape) == 2 {
			e := imatrix.Entry{Sum2: make([]float32, inputs(int(tensor.Shape[0]))), Tokens: 10}
			for i := 0; i < len(e.Sum2); i += 8 {
				e.Sum2[i] = 100
			}
			m.Entries[tensor.Name] = e
		}
	}
	path := filepath.Join(t.TempDir(), "imatrix.gguf")
	if err := m.Save(path); err != nil {
		t.Fatal(err)
	}
	return path
}

func all(n int) int { return n }

func TestImportanceMovesTheError(t *testing.T) {
	base := quantized(t, "q3_k_m")
	adapters := []Adapter{{random(t, base, adapter.MethodLoRA, "all-linear", 0.3, 8), 1}}
	errorOf := func(imatrix string) (sum float64) {
		out := filepath.Join(t.TempDir(), "out.gguf")
		r := mustMerge(t, Config{Model: base, Adapters: adapters, Out: out, IMatrix: imatrix})
		before, after := openModel(t, base), openModel(t, out)
		for _, m := range r.Tensors {
			if m.Weighted != (imatrix != "") {
				t.Errorf("%s: weighted %v", m.Name, m.Weighted)
			}
			w, q, delta := floats(t, before, m.Name), floats(t, after, m.Name), deltaOf(t, m.Name, adapters)
			for i := 0; i < len(w); i += 8 { // the inputs that count
				sum += math.Pow(float64(w[i])+delta[i]-float64(q[i]), 2)
			}
		}
		return sum
	}
	if plain, weighted := errorOf(""), errorOf(gathered(t, base, all)); !(weighted <= 0.8*plain) {
		t.Errorf("error of the important inputs %v with and %v without importance", weighted, plain)
	}
}

func TestTypeThatNeedsImportance(t *testing.T) {
	need.Long(t, "ggml takes seconds to build the search tables of iq2_xxs")
	base := testmodel.Path(t, wide)
	adapters := []Adapter{{random(t, base, adapter.MethodLoRA, "attn_v", 0.3, 9), 1}}
	to := gguf.TypeIQ2_XXS
	c := Config{Model: base, Adapters: adapters, Out: filepath.Join(t.TempDir(), "out.gguf"), Type: &to}
	_, err := Merge(t.Context(), c, nil)
	if err == nil || !strings.Contains(err.Error(), "type iq2_xxs needs an importance matrix") || len(hint.Of(err)) == 0 {
		t.Errorf("without a matrix: %v, want an error with a hint", err)
	}
	c.IMatrix = gathered(t, base, all)
	for _, m := range mustMerge(t, c).Tensors {
		if m.Type != "iq2_xxs" || !(m.Error <= 0.9) {
			t.Errorf("%s: report %+v", m.Name, m)
		}
	}
	logits(t, c.Out)
}

// full is a disk without room.
type full struct{ error }

func (f full) Write([]byte) (int, error) { return 0, f.error }

func TestWritingStopsAtAnError(t *testing.T) {
	base := testmodel.Path(t, testmodel.Spec{})
	m, err := open(Config{Model: base, Adapters: []Adapter{{random(t, base, adapter.MethodLoRA, "attn_q", 0.2, 11), 1}}, Out: filepath.Join(t.TempDir(), "out.gguf")})
	if err != nil {
		t.Fatal(err)
	}
	defer m.close()
	cause := errors.New("no room")
	c := m.changes["blk.0.attn_q.weight"]
	for what, err := range map[string]error{"copy": m.copy(full{cause}, c.Tensor), "merge": m.merge(full{cause}, c)} {
		if !errors.Is(err, cause) {
			t.Errorf("%s = %v, want %v", what, err, cause)
		}
	}
}

// TestSplits goes from one file to parts and back.
func TestSplits(t *testing.T) {
	base := quantized(t, "q4_k_m")
	adapters := []Adapter{{random(t, base, adapter.MethodLoRA, "all-linear", 0.3, 10), 1}}
	dir := t.TempDir()
	whole, parts, joined := filepath.Join(dir, "whole.gguf"), filepath.Join(dir, "parts.gguf"), filepath.Join(dir, "joined.gguf")
	mustMerge(t, Config{Model: base, Adapters: adapters, Out: whole})
	const most = 300 << 10
	r := mustMerge(t, Config{Model: base, Adapters: adapters, Out: parts, SplitMaxSize: most})
	if len(r.Files) < 3 || !strings.HasSuffix(r.Files[0], "parts-00001-of-0000"+string(rune('0'+len(r.Files)))+".gguf") {
		t.Fatalf("files %q, want three parts or more", r.Files)
	}
	for _, path := range r.Files[1:] { // the first has the vocabulary, however large
		if info, err := os.Stat(path); err != nil || info.Size() > most {
			t.Errorf("%s: %v, %v, want at most %d bytes", path, info, err, most)
		}
	}
	if want, got := logits(t, whole), logits(t, r.Files[0]); !slices.Equal(got, want) {
		t.Error("llama.cpp computes other logits with the parts")
	}
	none := []Adapter{{adapters[0].Path, 0}}
	mustMerge(t, Config{Model: r.Files[0], Adapters: none, Out: joined})
	if !sameBytes(t, whole, joined) {
		t.Error("the parts joined again are not the whole")
	}
	fits := filepath.Join(dir, "fits.gguf")
	if r := mustMerge(t, Config{Model: r.Files[0], Adapters: none, Out: fits, SplitMaxSize: 1 << 30}); r.Files[0] != fits || !sameBytes(t, whole, fits) {
		t.Errorf("files %q, want one, the whole", r.Files)
	}
}

func TestInterruptedLeavesNothing(t *testing.T) {
	base := quantized(t, "q4_k_m")
	adapters := []Adapter{{random(t, base, adapter.MethodLoRA, "all-linear", 0.3, 11), 1}}
	for _, split := range []int64{0, 300 << 10} {
		for _, after := range []int{0, 1, 7, len(openModel(t, base).Tensors()) - 1} {
			dir := t.TempDir()
			ctx, cancel := context.WithCancel(t.Context())
			if after == 0 {
				cancel()
			}
			_, err := Merge(ctx, Config{Model: base, Adapters: adapters, Out: filepath.Join(dir, "out.gguf"), SplitMaxSize: split}, func(done, total int) {
				if done == after {
					cancel()
				}
			})
			cancel()
			if !errors.Is(err, context.Canceled) {
				t.Errorf("cancelled after tensor %d: error %v", after, err)
			}
			if left, _ := os.ReadDir(dir); len(left) > 0 {
				t.Errorf("cancelled after tensor %d: left %q", after, left[0].Name())
			}
		}
	}
}

func TestRefuses(t *testing.T) {
	base := testmodel.Path(t, wide)
	good := random(t, base, adapter.MethodLoRA, "all-linear", 0.3, 12)
	dir := t.TempDir()
	out := filepath.Join(dir, "out.gguf")
	write := func(name string, data []byte) string {
		path := filepath.Join(t.TempDir(), name)
		if err := os.WriteFile(path, data, 0o666); err != nil {
			t.Fatal(err)
		}
		return path
	}
	raw, err := os.ReadFile(good)
	if err != nil {
		t.Fatal(err)
	}
	nan := slices.Clone(raw)
	copy(nan[len(nan)-4:], []byte{0, 0, 0xc0, 0x7f})
	link, hard := filepath.Join(t.TempDir(), "link.gguf"), filepath.Join(filepath.Dir(base), "hard.gguf")
	if err := errors.Join(os.Symlink(good, link), os.Link(base, hard)); err != nil {
		need.Skip(t, need.System, "no links: "+err.Error())
	}
	integer, none := gguf.TypeI32, []Adapter{{good, 1}}
	half, matrix := gguf.TypeF16, gathered(t, base, all)
	parts := filepath.Join(t.TempDir(), "parts.gguf")
	paths := mustMerge(t, Config{Model: base, Adapters: none, Out: parts, SplitMaxSize: 1 << 20}).Files
	for _, path := range paths {
		if err := os.Remove(path); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Mkdir(paths[1], 0o777); err != nil {
		t.Fatal(err)
	}
	small := testmodel.Path(t, testmodel.Spec{})
	gpt := testmodel.Path(t, testmodel.Spec{Arch: "gpt2", HeadsKV: 4})
	for _, tt := range []struct {
		name string
		c    Config
		want string
	}{
		{"no adapter", Config{Model: base, Out: out}, "no adapter to merge"},
		{"no base", Config{Model: "none.gguf", Adapters: none, Out: out}, "no such file"},
		{"an adapter as base", Config{Model: good, Adapters: none, Out: out}, `holds an adapter, want a base model`},
		{"a model as adapter", Config{Model: base, Adapters: []Adapter{{base, 1}}, Out: out}, `want "adapter"`},
		{"truncated", Config{Model: base, Adapters: []Adapter{{write("cut.gguf", raw[:len(raw)-5000]), 1}}, Out: out}, "data ends at byte"},
		{"no GGUF", Config{Model: base, Adapters: []Adapter{{write("a.zip", []byte("PK\x03\x04")), 1}}, Out: out}, "not a GGUF file"},
		{"NaN", Config{Model: base, Adapters: []Adapter{{write("nan.gguf", nan), 1}}, Out: out}, "is NaN"},
		{"other shapes", Config{Model: small, Adapters: none, Out: out}, "the model has [64"},
		{"other architecture", Config{Model: gpt, Adapters: none, Out: out}, `made for architecture "llama", the model is "gpt2"`},
		{"scale", Config{Model: base, Adapters: []Adapter{{good, float32(math.NaN())}}, Out: out}, "scale NaN"},
		{"integers", Config{Model: base, Adapters: none, Out: out, Type: &integer}, "type i32: cannot be encoded"},
		{"no matrix", Config{Model: base, Adapters: none, Out: out, IMatrix: good}, `want "imatrix"`},
		{"another matrix", Config{Model: base, Adapters: none, Out: out, IMatrix: gathered(t, base, func(n int) int { return n - 1 })}, "importance of 255 inputs, the model has 256"},
		{"out is the base", Config{Model: base, Adapters: none, Out: base}, "would be replaced by what is made of it"},
		{"out is a hard link to the base", Config{Model: base, Adapters: none, Out: hard}, "would be replaced by what is made of it"},
		{"out is a link to the adapter", Config{Model: base, Adapters: none, Out: link}, "would be replaced by what is made of it"},
		{"out is a folder", Config{Model: base, Adapters: none, Out: dir}, "exists and is not a file"},
		{"the second part of out is a folder", Config{Model: base, Adapters: none, Out: parts, SplitMaxSize: 1 << 20}, "exists and is not a file"},
		{"out in a file", Config{Model: base, Adapters: none, Out: filepath.Join(good, "out.gguf")}, "is not a folder"},
		{"out is the matrix", Config{Model: base, Adapters: none, Out: matrix, IMatrix: matrix}, "would be replaced by what is made of it"},
		{"a base of integers", Config{Model: integers(t, base), Adapters: none, Out: out, Type: &half}, "want a type of weights, got i32"},
		{"a weight with a scale apart", Config{Model: scaled(t, base), Adapters: none, Out: out}, `has a scale apart, "blk.0.attn_q.scale"`},
		{"out in no folder", Config{Model: base, Adapters: none, Out: filepath.Join(dir, "none", "out.gguf")}, "no such file"},
		{"too large for halves", Config{Model: base, Adapters: []Adapter{{good, 1e9}}, Out: out, Type: new(gguf.Type(gguf.TypeF16))}, "which type f16 cannot hold"},
		{"beyond floats", Config{Model: base, Adapters: []Adapter{{random(t, base, adapter.MethodLoRA, "attn_q", 1e3, 16), 3e38}}, Out: out}, "Inf"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			_, err := Merge(t.Context(), tt.c, nil)
			if err == nil || !strings.Contains(err.Error(), tt.want) || strings.Contains(err.Error(), "\n") {
				t.Errorf("Merge = %v, want an error that says %q", err, tt.want)
			}
			if left, _ := os.ReadDir(dir); len(left) > 0 {
				t.Errorf("left %q", left[0].Name())
			}
		})
	}
	if !bytes.Equal(must(os.ReadFile(good)), raw) {
		t.Error("the adapter was changed")
	}
}

// integers is the base with a matrix of another kind of numbers.
func integers(t *testing.T, base string) string {
	t.Helper()
	f := openModel(t, base)
	b := gguf.NewBuilder()
	b.SetAll(f.KVs())
	for _, tensor := range f.Tensors() {
		if tensor.Name == "blk.0.attn_q.weight" {
			b.AddTensor(tensor.Name, gguf.TypeI32, tensor.Shape, make([]byte, 4*tensor.Elements()))
			continue
		}
		b.CopyTensor(f, tensor.Name)
	}
	path := filepath.Join(t.TempDir(), "integers.gguf")
	if err := b.WriteFile(path); err != nil {
		t.Fatal(err)
	}
	return path
}

// scaled is base with a scale for one weight, as models in nvfp4 have them for all.
func scaled(t *testing.T, base string) string {
	t.Helper()
	f := openModel(t, base)
	b := gguf.NewBuilder()
	b.SetAll(f.KVs())
	for _, tensor := range f.Tensors() {
		b.CopyTensor(f, tensor.Name)
	}
	b.AddTensor("blk.0.attn_q.scale", gguf.TypeF32, []int64{1}, make([]byte, 4))
	path := filepath.Join(t.TempDir(), "scaled.gguf")
	if err := b.WriteFile(path); err != nil {
		t.Fatal(err)
	}
	return path
}

func must(data []byte, err error) []byte {
	if err != nil {
		panic(err)
	}
	return data
}

// TestOtherBaseIsTaken: shapes that fit are merged, as llama.cpp loads such an adapter.
func TestOtherBaseIsTaken(t *testing.T) {
	other := wide
	other.Seed = 99
	base := testmodel.Path(t, wide)
	c := Config{Model: base, Adapters: []Adapter{{random(t, testmodel.Path(t, other), adapter.MethodLoRA, "attention", 0.3, 13), 1}},
		Out: filepath.Join(t.TempDir(), "out.gguf")}
	if err := Check(c); err != nil {
		t.Errorf("Check = %v", err)
	}
	if _, err := os.Stat(c.Out); err == nil {
		t.Error("Check wrote a file")
	}
	if r := mustMerge(t, c); len(r.Tensors) != 8 {
		t.Errorf("%d tensors changed, want 8", len(r.Tensors))
	}
}

// single writes a base of one tensor in a type, with the keys given beside the
// architecture.
func single(t *testing.T, typ gguf.Type, nIn, nOut int, keys ...gguf.KV) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "base.gguf")
	b := gguf.NewBuilder()
	b.Set("general.architecture", "llama")
	b.SetAll(keys)
	weights := make([]float32, nIn*nOut)
	for i := range weights {
		weights[i] = float32(i%251)/100 - 1.2
	}
	data, err := quant.Encode(typ, weights, nIn, nil)
	if err != nil {
		t.Fatal(err)
	}
	b.AddTensor("blk.0.attn_q.weight", typ, []int64{int64(nIn), int64(nOut)}, data)
	if err := b.WriteFile(path); err != nil {
		t.Fatal(err)
	}
	return path
}

// TestKeysOfTypes: what is said of the types follows them, and nothing else is said.
func TestKeysOfTypes(t *testing.T) {
	arch := gguf.KV{Key: "general.architecture", Value: "llama"}
	is := func(n uint32) gguf.KV { return gguf.KV{Key: keyFileType, Value: n} }
	version := gguf.KV{Key: keyQuantVersion, Value: uint32(2)}
	for _, tt := range []struct {
		name     string
		from, to gguf.Type
		keys     []gguf.KV
		want     []gguf.KV
	}{
		{"the same type under another name of its mix", gguf.TypeQ4_K, gguf.TypeQ4_K, []gguf.KV{is(14), version}, []gguf.KV{arch, is(14), version}},
		{"floats to floats", gguf.TypeF32, gguf.TypeF16, []gguf.KV{is(0)}, []gguf.KV{arch, is(1)}},
		{"nothing said", gguf.TypeF32, gguf.TypeBF16, nil, []gguf.KV{arch}},
		{"quantized", gguf.TypeF16, gguf.TypeQ8_0, []gguf.KV{is(1)}, []gguf.KV{arch, is(7), version}},
		{"quantized again", gguf.TypeQ4_0, gguf.TypeQ6_K, []gguf.KV{version, is(2)}, []gguf.KV{arch, version, is(18)}},
	} {
		base := single(t, tt.from, 256, 256, tt.keys...)
		out := filepath.Join(t.TempDir(), "out.gguf")
		mustMerge(t, Config{Model: base, Adapters: []Adapter{{random(t, base, adapter.MethodLoRA, "all-linear", 1, 15), 1}}, Out: out, Type: &tt.to})
		if got := openModel(t, out).KVs(); !reflect.DeepEqual(got, tt.want) {
			t.Errorf("%s: keys %v, want %v", tt.name, got, tt.want)
		}
	}
}

func TestTilesMakeNoDifference(t *testing.T) {
	const nIn, nOut = 4096, 3 * tileElements / 4096 / 2 // one tile and a half
	base := single(t, gguf.TypeQ4_0, nIn, nOut)
	lora := random(t, base, adapter.MethodLoRA, "all-linear", 20, 14)
	out := filepath.Join(t.TempDir(), "out.gguf")
	mustMerge(t, Config{Model: base, Adapters: []Adapter{{lora, 1}}, Out: out})
	a, err := adapter.Load(lora)
	if err != nil {
		t.Fatal(err)
	}
	whole, delta := floats(t, openModel(t, base), "blk.0.attn_q.weight"), make([]float32, nIn*nOut)
	adapter.Delta(a.Weights[0], delta)
	for i := range whole {
		whole[i] += delta[i]
	}
	want, err := quant.Encode(gguf.TypeQ4_0, whole, nIn, nil)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(mustData(t, openModel(t, out), "blk.0.attn_q.weight"), want) {
		t.Error("merged by tiles and at once to other bytes")
	}
}

// TestNothingToCompareWith: a weight of zeros has figures that are numbers.
func TestNothingToCompareWith(t *testing.T) {
	path := filepath.Join(t.TempDir(), "base.gguf")
	b := gguf.NewBuilder()
	b.Set("general.architecture", "llama")
	b.AddTensor("blk.0.attn_q.weight", gguf.TypeQ8_0, []int64{64, 64}, make([]byte, 64*64/32*34))
	if err := b.WriteFile(path); err != nil {
		t.Fatal(err)
	}
	for _, scale := range []float32{0, 1e-30, 1} {
		r := mustMerge(t, Config{Model: path, Adapters: []Adapter{{random(t, path, adapter.MethodLoRA, "all-linear", 1, 17), scale}},
			Out: filepath.Join(t.TempDir(), "out.gguf")})
		if _, err := json.Marshal(r); err != nil {
			t.Errorf("scale %v: %v", scale, err)
		}
	}
}
