package convert

import (
	"bytes"
	"errors"
	"testing"

	"finetune/adapter"
	"finetune/convert/safetensors"
	"finetune/gguf"
	"finetune/internal/testmodel"
)

// checkRead checks what every reader promises: an error of a known kind, or an adapter
// that fits the model and whose numbers are numbers.
func checkRead(t *testing.T, m *baseModel, l *lora, err error) {
	t.Helper()
	if err != nil {
		if !known(err) {
			t.Errorf("error %v (%T), want one of a known kind", err, err)
		}
		return
	}
	if h := l.head; h != nil && (len(h.Labels) < 2 || len(h.Weights) != len(h.Labels)*m.nEmbd() || len(h.Biases) != len(h.Labels)) {
		t.Fatalf("classifier of %d labels, %d weights and %d biases", len(h.Labels), len(h.Weights), len(h.Biases))
	}
	for name, p := range l.pairs {
		i, ok := m.byName[name]
		if !ok {
			t.Fatalf("module %q is not of the model", name)
		}
		if mod := m.modules[i]; p.a.cols != mod.in || p.b.rows != mod.out || p.a.rows != p.b.cols || !usable(p.scale) {
			t.Fatalf("module %q: A [%d %d], B [%d %d], scale %v", name, p.a.rows, p.a.cols, p.b.rows, p.b.cols, p.scale)
		}
		for _, f := range []matrix{p.a, p.b} {
			if err := f.checkFinite("", name); err != nil {
				t.Fatal(err)
			}
		}
	}
}

// known tells whether an error is one that a damaged adapter should give.
func known(err error) bool {
	var ours *FormatError
	var refused *UnsupportedError
	var tensors *safetensors.FormatError
	var otherTensors *safetensors.UnsupportedError
	var cut *gguf.TruncatedError
	var file *gguf.FormatError
	var otherFile *gguf.UnsupportedError
	return errors.As(err, &ours) || errors.As(err, &refused) || errors.As(err, &tensors) || errors.As(err, &otherTensors) ||
		errors.As(err, &cut) || errors.As(err, &file) || errors.As(err, &otherFile) || errors.Is(err, gguf.ErrKind)
}

// tiny is the smallest model with every kind of row order that llama has.
func tiny(f *testing.F) *baseModel {
	f.Helper()
	m, err := openModel(testmodel.Path(f, testmodel.Spec{Layers: 1, Embd: 16, Heads: 2, HeadsKV: 1, FF: 16}))
	if err != nil {
		f.Fatal(err)
	}
	return m
}

const goodPEFT = `{"peft_type":"LORA","r":1,"lora_alpha":2,"target_modules":["k_proj"],"rank_pattern":{"q_proj":2},"alpha_pattern":{},"use_rslora":true}`

const goodMLX = `{"num_layers":1,"lora_parameters":{"rank":1,"scale":2,"keys":["self_attn.k_proj"]},"finetune":{"folded":{"model.layers.0.self_attn.k_proj":2}}}`

// FuzzPEFT reads any configuration with any tensors: no panic, an error of a known
// kind, or a usable adapter.
func FuzzPEFT(f *testing.F) {
	m := tiny(f)
	b := safetensors.NewBuilder(nil)
	const k = peftPrefix + "model.layers.0.self_attn.k_proj"
	b.Add(k+".lora_A.weight", safetensors.F32, []int64{1, 16}, func() ([]byte, error) { return make([]byte, 64), nil })
	b.Add(k+".lora_B.weight", safetensors.F16, []int64{8, 1}, func() ([]byte, error) { return make([]byte, 16), nil })
	var good bytes.Buffer
	if _, err := b.WriteTo(&good); err != nil {
		f.Fatal(err)
	}
	f.Add([]byte(goodPEFT), good.Bytes())
	f.Add([]byte(`{"peft_type":"LORA","layers_to_transform":0,"target_modules":".*"}`), good.Bytes())
	b = safetensors.NewBuilder(map[string]string{metadataLabels: `{"0": "no", "1": "yes"}`})
	b.Add(k+".lora_A.weight", safetensors.F32, []int64{1, 16}, func() ([]byte, error) { return make([]byte, 64), nil })
	b.Add(k+".lora_B.weight", safetensors.F32, []int64{8, 1}, func() ([]byte, error) { return make([]byte, 32), nil })
	b.Add(peftPrefix+"score.modules_to_save.default.weight", safetensors.F16, []int64{2, 16}, func() ([]byte, error) { return make([]byte, 64), nil })
	b.Add(peftPrefix+"score.bias", safetensors.F32, []int64{2}, func() ([]byte, error) { return make([]byte, 8), nil })
	var classifier bytes.Buffer
	if _, err := b.WriteTo(&classifier); err != nil {
		f.Fatal(err)
	}
	const withScore = `{"peft_type":"LORA","task_type":"SEQ_CLS","r":1,"lora_alpha":2,"modules_to_save":["classifier","score"]}`
	f.Add([]byte(withScore), classifier.Bytes())
	read := func(text, weights []byte) (*lora, error) {
		c, err := parseConfig(configFile, text)
		if err != nil {
			return nil, err
		}
		config, err := c.peft()
		if err != nil {
			return nil, err
		}
		file, err := safetensors.Decode(bytes.NewReader(weights), int64(len(weights)))
		if err != nil {
			return nil, err
		}
		return newPEFTReader(file, m, config, &Report{}).lora()
	}
	if _, err := read([]byte(goodPEFT), good.Bytes()); err != nil {
		f.Fatal(err)
	}
	if l, err := read([]byte(withScore), classifier.Bytes()); err != nil || l.head == nil {
		f.Fatalf("classifier %v, error %v, want one", l, err)
	}
	f.Fuzz(func(t *testing.T, text, weights []byte) {
		l, err := read(text, weights)
		checkRead(t, m, l, err)
	})
}

// FuzzMLX is the same for mlx-lm's folder.
func FuzzMLX(f *testing.F) {
	m := tiny(f)
	b := safetensors.NewBuilder(nil)
	b.Add("model.layers.0.self_attn.k_proj.lora_a", safetensors.BF16, []int64{16, 1}, func() ([]byte, error) { return make([]byte, 32), nil })
	b.Add("model.layers.0.self_attn.k_proj.lora_b", safetensors.F32, []int64{1, 8}, func() ([]byte, error) { return make([]byte, 32), nil })
	var good bytes.Buffer
	if _, err := b.WriteTo(&good); err != nil {
		f.Fatal(err)
	}
	f.Add([]byte(goodMLX), good.Bytes())
	read := func(text, weights []byte) (*lora, error) {
		c, err := parseConfig(configFile, text)
		if err != nil {
			return nil, err
		}
		config, err := c.mlx()
		if err != nil {
			return nil, err
		}
		file, err := safetensors.Decode(bytes.NewReader(weights), int64(len(weights)))
		if err != nil {
			return nil, err
		}
		return (&mlxReader{f: file, m: m, config: config, factors: map[string][2][]matrix{}}).lora()
	}
	if _, err := read([]byte(goodMLX), good.Bytes()); err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, text, weights []byte) {
		l, err := read(text, weights)
		checkRead(t, m, l, err)
	})
}

// FuzzGGUF is the same for a GGUF LoRA.
func FuzzGGUF(f *testing.F) {
	m := tiny(f)
	read := func(raw []byte) (*lora, error) {
		file, err := gguf.Decode(bytes.NewReader(raw), int64(len(raw)))
		if err != nil {
			return nil, err
		}
		return (&ggufReader{file, m, &Report{}, map[string]map[string][]matrix{}}).lora()
	}
	for _, alpha := range []float32{0, 2} {
		b := gguf.NewBuilder()
		b.Set(adapter.KeyType, "adapter")
		b.Set(adapter.KeyArchitecture, "llama")
		b.Set(adapter.KeyKind, "lora")
		b.Set(adapter.KeyAlpha, alpha)
		b.Set(keyFolded, []string{"blk.0.attn_k.weight"})
		b.Set(keyFoldFactors, []float32{2})
		b.AddTensor("blk.0.attn_k.weight.lora_a", gguf.TypeF32, []int64{16, 1}, make([]byte, 64))
		b.AddTensor("blk.0.attn_k.weight.lora_b", gguf.TypeF16, []int64{1, 8}, make([]byte, 16))
		var good bytes.Buffer
		if _, err := b.WriteTo(&good); err != nil {
			f.Fatal(err)
		}
		if _, err := read(good.Bytes()); err != nil {
			f.Fatal(err)
		}
		f.Add(good.Bytes())
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		l, err := read(raw)
		checkRead(t, m, l, err)
	})
}
