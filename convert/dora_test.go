package convert

import (
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"finetune/adapter"
	"finetune/internal/hint"
	"finetune/internal/testmodel"
)

// doraFolder is a DoRA on every matrix of the layers, its magnitudes under one of the names that PEFT has for them.
func doraFolder(m *baseModel, suffix string) folder {
	f := peftFolder(m, 4, func(mod module) bool { return mod.layer >= 0 && mod.expert < 0 })
	f.config["use_dora"] = true
	for _, mod := range m.modules {
		if mod.layer >= 0 && mod.expert < 0 {
			f.shapes[peftPrefix+mod.name+suffix] = []int64{int64(mod.out)}
		}
	}
	return f
}

// The numbers come as they are but for the order of rows; package oracle tells what they do.
func TestDoRABecomesAFileOfOurs(t *testing.T) {
	model := tinyLlama(t)
	m := mustModel(t, model)
	for _, suffix := range magnitudeSuffixes {
		out, r := mustRun(t, doraFolder(m, suffix).write(t), GGUF, model)
		if r.Modules != 21 || r.Reordered != 6 || len(r.Notes) != 1 || !strings.Contains(r.Notes[0], "llama.cpp does not load it") {
			t.Errorf("report %+v", r)
		}
		a, err := adapter.Load(out)
		if err != nil {
			t.Fatal(err)
		}
		if a.Method() != adapter.MethodDoRA || a.Alpha() != 16 || a.Rank() != 4 || len(a.Weights) != 21 || a.Meta[adapter.KeyMethod] != "dora" ||
			int64(a.Parameters()) != r.Parameters || a.CheckBase(m.Identity) != nil {
			t.Errorf("%s with alpha %v, rank %d, %d weights, %d parameters, keys %v", a.Method(), a.Alpha(), a.Rank(), len(a.Weights), a.Parameters(), a.Meta)
		}
		for tensor, module := range map[string]string{"blk.1.attn_v.weight": "self_attn.v_proj", "blk.1.ffn_down.weight": "mlp.down_proj"} {
			w, _ := a.Weight(tensor)
			d := w.Factors.(*adapter.DoRA)
			if want := noise(peftPrefix+"model.layers.1."+module+suffix, len(d.M.Data)); !slices.Equal(d.M.Data, want) {
				t.Errorf("%s: magnitudes %v, want %v", tensor, d.M.Data[:4], want[:4])
			}
		}
		w, _ := a.Weight("blk.1.attn_q.weight") // of a head of 16 rows, i and i + 8 become 2i and 2i + 1
		got, from := w.Factors.(*adapter.DoRA).M.Data, noise(peftPrefix+"model.layers.1.self_attn.q_proj"+suffix, 64)
		for i := range 8 {
			if got[2*i] != from[i] || got[2*i+1] != from[i+8] || got[16+2*i] != from[16+i] {
				t.Errorf("magnitudes of q: %v of %v", got[:16], from[:16])
				break
			}
		}
	}
}

func TestDoRAThatIsRefused(t *testing.T) {
	model := tinyLlama(t)
	m := mustModel(t, model)
	const q = peftPrefix + "model.layers.0.self_attn.q_proj"
	for name, tt := range map[string]struct {
		change func(f folder)
		kind   kind
		want   string
	}{
		"one without magnitudes":   {func(f folder) { delete(f.shapes, q+".lora_magnitude_vector") }, damaged, `module "model.layers.0.self_attn.q_proj": adapter_config.json says use_dora, and its lora_magnitude_vector is missing`},
		"magnitudes alone":         {func(f folder) { delete(f.shapes, q+".lora_A.weight"); delete(f.shapes, q+".lora_B.weight") }, damaged, "has a lora_magnitude_vector, and A and B are missing"},
		"magnitudes as a matrix":   {func(f folder) { f.shapes[q+".lora_magnitude_vector"] = []int64{1, 64} }, damaged, "shape [1 64], want one dimension"},
		"no magnitudes":            {func(f folder) { f.shapes[q+".lora_magnitude_vector"] = []int64{0} }, damaged, "shape [0], want one dimension"},
		"magnitudes of other rows": {func(f folder) { f.shapes[q+".lora_magnitude_vector"] = []int64{32} }, damaged, "32 magnitudes, want 64"},
	} {
		t.Run(name, func(t *testing.T) {
			f := doraFolder(m, magnitudeSuffixes[0])
			tt.change(f)
			checkRefused(t, Config{From: f.write(t), To: GGUF, Model: model}, tt.kind, tt.want)
		})
	}
	t.Run("to MLX", func(t *testing.T) {
		checkRefused(t, Config{From: doraFolder(m, magnitudeSuffixes[0]).write(t), To: MLX, Model: model}, refused, "is a DoRA, which is not converted to mlx")
	})
	t.Run("back", func(t *testing.T) {
		out, _ := mustRun(t, doraFolder(m, magnitudeSuffixes[0]).write(t), GGUF, model)
		checkRefused(t, Config{From: out, To: PEFT, Model: model}, refused, "holds dora as it is trained")
	})
	t.Run("embeddings", func(t *testing.T) {
		untied := testmodel.Path(t, testmodel.Spec{Layers: 1})
		m := mustModel(t, untied)
		f := doraFolder(m, magnitudeSuffixes[0])
		f.add("model.embed_tokens", 4, m.modules[m.byName["model.embed_tokens"]])
		f.shapes[peftPrefix+"model.embed_tokens.lora_magnitude_vector"] = []int64{64}
		checkRefused(t, Config{From: f.write(t), To: GGUF, Model: untied}, refused, "DoRA on embeddings or experts")
	})
}

// Of q, k and v that are one tensor, all have to be there: the lengths of the other rows are the model's.
func TestDoRAOnSomeRowsOfATensor(t *testing.T) {
	model := everyModel(t)["phi2"]
	m := mustModel(t, model)
	var parts []string
	for _, e := range m.mappings {
		if e.weight == "blk.0.attn_qkv.weight" {
			parts = append(parts, e.module)
		}
	}
	if len(parts) < 2 {
		t.Fatalf("modules %q make one tensor, want several", parts)
	}
	f := doraFolder(m, magnitudeSuffixes[0])
	for name := range f.shapes {
		if strings.HasPrefix(name, peftPrefix+parts[1]+".") {
			delete(f.shapes, name)
		}
	}
	_, err := Run(Config{From: f.write(t), To: GGUF, Model: model, Out: filepath.Join(t.TempDir(), "out")})
	if err == nil || !strings.Contains(err.Error(), `weight "blk.0.attn_qkv.weight": a DoRA on some of its rows only`) || len(hint.Of(err)) == 0 {
		t.Errorf("Run = %v, want an error of the tensor", err)
	}
}
