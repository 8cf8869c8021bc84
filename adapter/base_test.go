package adapter

import (
	"errors"
	"path/filepath"
	"strings"
	"testing"

	"finetune/gguf"
	"finetune/internal/need"
	"finetune/internal/testmodel"
	"finetune/model"
)

func readBase(t *testing.T, path string) model.Identity {
	t.Helper()
	f, err := model.OpenParts(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	b, err := f.Identity()
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestQuantizationsOfOneModelShareTheirHash(t *testing.T) {
	check := func(t *testing.T, model func(t *testing.T, typ gguf.Type) string) {
		first := readBase(t, model(t, gguf.TypeF32))
		for _, typ := range []gguf.Type{gguf.TypeF16, gguf.TypeQ8_0} {
			if b := readBase(t, model(t, typ)); b.Hash != first.Hash {
				t.Errorf("%s has hash %s, f32 %s", typ, b.Hash, first.Hash)
			}
		}
		if len(first.Hash) != len("sha256:")+64 {
			t.Errorf("hash %q", first.Hash)
		}
	}
	t.Run("made here", func(t *testing.T) {
		check(t, func(t *testing.T, typ gguf.Type) string { return testmodel.Path(t, testmodel.Spec{Type: typ}) })
	})
	t.Run("made by llama.cpp", func(t *testing.T) {
		check(t, func(t *testing.T, typ gguf.Type) string {
			return need.Shared(t, "models/stories260K-"+typ.String()+".gguf")
		})
	})
}

func TestATrainedNormChangesTheHash(t *testing.T) {
	hash := func(v byte) string {
		b := gguf.NewBuilder()
		b.Set("general.architecture", "llama")
		b.AddTensor("blk.0.attn_norm.weight", gguf.TypeF32, []int64{2}, []byte{0, 0, 0, 0, v, 0, 0, 0})
		path := filepath.Join(t.TempDir(), "m.gguf")
		if err := b.WriteFile(path); err != nil {
			t.Fatal(err)
		}
		return readBase(t, path).Hash
	}
	if hash(0) == hash(1) {
		t.Error("another norm, the same hash")
	}
}

// What shares the norms, and so the hash, is told apart by its weights: quantizations, and models made anew.
func TestWeightsTellModelsOfOneHashApart(t *testing.T) {
	seen := map[string]string{}
	var hash string
	for name, spec := range map[string]testmodel.Spec{
		"f32": {}, "f16": {Type: gguf.TypeF16}, "q8_0": {Type: gguf.TypeQ8_0},
	} {
		id := readBase(t, testmodel.Path(t, spec))
		if other := seen[id.Weights]; other != "" || len(id.Weights) != len("sha256:")+64 {
			t.Errorf("%s and %q have weights %q", name, other, id.Weights)
		}
		seen[id.Weights] = name
		if hash != "" && id.Hash != hash {
			t.Errorf("%s: hash %s, others %s", name, id.Hash, hash)
		}
		hash = id.Hash
	}
}

// A change of all weights of a large matrix by the last bit, as a merge makes it, is seen, and one of its first and its last row.
func TestWeightsSeeWhatAMergeChanges(t *testing.T) {
	const rows, cols = 512, 64
	weights := func(change func(row int) bool) string {
		data := make([]byte, 4*rows*cols)
		for row := range rows {
			if change(row) {
				for col := range cols {
					data[4*(row*cols+col)] = 1
				}
			}
		}
		b := gguf.NewBuilder()
		b.Set("general.architecture", "llama")
		b.AddTensor("blk.0.ffn_up.weight", gguf.TypeF32, []int64{cols, rows}, data)
		path := filepath.Join(t.TempDir(), "m.gguf")
		if err := b.WriteFile(path); err != nil {
			t.Fatal(err)
		}
		return readBase(t, path).Weights
	}
	before := weights(func(int) bool { return false })
	for name, change := range map[string]func(row int) bool{
		"all rows": func(int) bool { return true }, "the first": func(row int) bool { return row == 0 }, "the last": func(row int) bool { return row == rows-1 },
	} {
		if weights(change) == before {
			t.Errorf("%s changed, the same hash", name)
		}
	}
}

func TestCheckBase(t *testing.T) {
	a := dualAdapter(t, 1, [2]int{20, 30})
	fits := func() model.Identity {
		return model.Identity{Architecture: "llama", Name: "toy", Hash: a.BaseHash, Tensors: []gguf.Tensor{{Name: "blk.0.ffn_up.weight", Shape: []int64{20, 30}}}}
	}
	if err := a.CheckBase(fits()); err != nil {
		t.Errorf("CheckBase of its own base = %v", err)
	}
	unknown := fits()
	unknown.Hash = ""
	if err := a.CheckBase(unknown); err != nil {
		t.Errorf("CheckBase without a hash = %v", err)
	}
	for _, c := range []struct {
		edit func(*model.Identity)
		want string
	}{
		{func(b *model.Identity) { b.Architecture = "qwen2" }, `adapter: made for architecture "llama", the model is "qwen2"`},
		{func(b *model.Identity) { b.Tensors = nil }, `adapter: tensor "blk.0.ffn_up.weight": not in the model`},
		{func(b *model.Identity) { b.Tensors[0].Shape = []int64{30, 20} }, `adapter: tensor "blk.0.ffn_up.weight": made for shape [20 30], the model has [30 20]`},
		{func(b *model.Identity) { b.Name, b.Hash = "other", "sha256:0123456789" }, `adapter: trained on another base: "toy" (sha256:00), the model is "other" (sha256:01234567)`},
	} {
		b := fits()
		c.edit(&b)
		if err := a.CheckBase(b); err == nil || err.Error() != c.want {
			t.Errorf("CheckBase = %v, want %s", err, c.want)
		}
	}
	a.Meta = map[string]gguf.Value{KeyBaseWeights: "sha256:aa"}
	other := fits()
	other.Weights = "sha256:bb"
	if err := a.CheckBase(other); !errors.Is(err, ErrOtherWeights) || err.Error() != `adapter: trained on other weights: "toy" (sha256:aa), the model has "toy" (sha256:bb)` {
		t.Errorf("CheckBase with other weights = %v, want ErrOtherWeights", err)
	}
	b := fits()
	b.Hash = "sha256:01"
	if err := a.CheckBase(b); !errors.Is(err, ErrOtherBase) {
		t.Errorf("CheckBase with another hash = %v, want ErrOtherBase", err)
	}
}

// A chat template that is not known, of the adapter or of the model, is no other one.
func TestCheckBaseComparesChatTemplates(t *testing.T) {
	for _, c := range []struct {
		trained, now string
		other        bool
	}{{"", "", false}, {"", "a", false}, {"a", "", false}, {"a", "a", false}, {"a", "b", true}} {
		a := dualAdapter(t, 1, [2]int{20, 30})
		b := model.Identity{Architecture: "llama", Name: "toy", Hash: a.BaseHash, Tensors: []gguf.Tensor{{Name: "blk.0.ffn_up.weight", Shape: []int64{20, 30}}}}
		if c.trained != "" {
			a.Meta = map[string]gguf.Value{KeyTemplateHash: model.HashText(c.trained)}
		}
		if c.now != "" {
			b.Template = model.HashText(c.now)
		}
		err := a.CheckBase(b)
		if errors.Is(err, ErrOtherBase) != c.other || err != nil != c.other || c.other && !strings.Contains(err.Error(), "chat template sha256:ca978112, that of the model is sha256:3e23e816") {
			t.Errorf("trained with template %q, used with %q: CheckBase = %v", c.trained, c.now, err)
		}
	}
}

func TestIdentityHashesTheChatTemplate(t *testing.T) {
	for _, template := range []string{"", "{{ messages }}"} {
		b := gguf.NewBuilder()
		b.Set("general.architecture", "llama")
		b.Set("general.name", "toy")
		want := ""
		if template != "" {
			b.Set("tokenizer.chat_template", template)
			want = model.HashText(template)
		}
		b.AddTensor("b.weight", gguf.TypeF32, []int64{1}, make([]byte, 4))
		b.AddTensor("a.weight", gguf.TypeF32, []int64{1}, make([]byte, 4))
		path := filepath.Join(t.TempDir(), "m.gguf")
		if err := b.WriteFile(path); err != nil {
			t.Fatal(err)
		}
		if got := readBase(t, path); got.Template != want || got.Name != "toy" || got.Architecture != "llama" || len(got.Tensors) != 2 {
			t.Errorf("Identity = %+v, want template %q", got, want)
		}
	}
}
