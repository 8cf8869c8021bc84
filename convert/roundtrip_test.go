package convert

import (
	"encoding/json"
	"maps"
	"math"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"finetune/adapter"
	"finetune/convert/safetensors"
)

// An adapter on every module of every architecture comes back from GGUF and from MLX
// with the same file, byte for byte, and the ways between them agree.
func TestRoundTrips(t *testing.T) {
	for name, model := range everyModel(t) {
		t.Run(name, func(t *testing.T) {
			m := mustModel(t, model)
			f := peftFolder(m, 4, everySite)
			peft := f.write(t)
			weights := filepath.Join(peft, peftWeights)

			lora, r := mustRun(t, peft, GGUF, model)
			if r.Modules*2 != len(f.shapes) || r.RankMin != 4 || r.RankMax != 4 || r.ScaleMin != 4 || r.ScaleMax != 4 {
				t.Errorf("report = %+v, want %d modules of rank 4 and scale 4", r, len(f.shapes)/2)
			}
			back, r := mustRun(t, lora, PEFT, model)
			sameFile(t, filepath.Join(back, peftWeights), weights)
			if r.Alpha != 16 || len(r.Notes) > 0 {
				t.Errorf("back: report = %+v, want alpha 16 and no notes", r)
			}

			if slices.Equal(m.mlx, noMLX) {
				if _, err := Run(Config{From: peft, To: MLX, Model: model, Out: filepath.Join(t.TempDir(), "x")}); err == nil {
					t.Error("to MLX, which has no such model: no error")
				}
				return
			}
			mlx, _ := mustRun(t, peft, MLX, model)
			back, _ = mustRun(t, mlx, PEFT, model)
			sameFile(t, filepath.Join(back, peftWeights), weights)
			again, _ := mustRun(t, mlx, GGUF, model)
			sameTensors(t, again, lora)
			mlx2, _ := mustRun(t, lora, MLX, model)
			sameFile(t, filepath.Join(mlx2, mlxWeights), filepath.Join(mlx, mlxWeights))
			sameFile(t, filepath.Join(mlx2, configFile), filepath.Join(mlx, configFile))
		})
	}
}

// A GGUF LoRA of ours is a GGUF LoRA to the rest of this project.
func TestAdapterPackageLoadsWhatIsWritten(t *testing.T) {
	model := tinyLlama(t)
	m := mustModel(t, model)
	lora, _ := mustRun(t, peftFolder(m, 4, func(mod module) bool { return mod.layer >= 0 }).write(t), GGUF, model)
	a, err := adapter.Load(lora)
	if err != nil {
		t.Fatal(err)
	}
	if a.Alpha() != 16 || a.Rank() != 4 || len(a.Weights) != 21 || a.BaseName != m.Name {
		t.Errorf("alpha %v, rank %d, %d weights, base %q", a.Alpha(), a.Rank(), len(a.Weights), a.BaseName)
	}
	if err := a.CheckBase(m.Identity); err != nil || a.BaseHash == "" {
		t.Errorf("CheckBase = %v, hash %q", err, a.BaseHash)
	}
}

// Settings that need folding, and whether B comes back to the byte: it does where
// factors are powers of two.
func TestScales(t *testing.T) {
	type settings = map[string]any
	larger := func(end string, r int) func(mod module) int {
		return func(mod module) int {
			if strings.HasSuffix(mod.name, end) {
				return r
			}
			return 4
		}
	}
	for name, tt := range map[string]struct {
		config settings
		rank   func(mod module) int
		folded int  // weights in the GGUF
		gguf   bool // exact by way of GGUF
		mlx    bool // exact by way of MLX, which has one scale
	}{
		"one alpha":                  {settings{"lora_alpha": 12}, nil, 0, true, true},
		"fractional alpha":           {settings{"lora_alpha": 0.3}, nil, 0, true, true},
		"negative alpha":             {settings{"lora_alpha": -4}, nil, 0, true, true},
		"rank-stabilized":            {settings{"use_rslora": true}, nil, 0, true, true},
		"ranks of their own":         {settings{"rank_pattern": settings{"q_proj": 6}}, larger("q_proj", 6), 0, true, false},
		"ranks a power of two apart": {settings{"rank_pattern": settings{"q_proj": 8}}, larger("q_proj", 8), 0, true, true},
		"rank-stabilized, ranks a power of four apart": {settings{"use_rslora": true, "rank_pattern": settings{"q_proj": 16}},
			larger("q_proj", 16), 3, true, true},
		"rank-stabilized, other ranks": {settings{"use_rslora": true, "rank_pattern": settings{"q_proj": 6}},
			larger("q_proj", 6), 3, false, false},
		"an alpha twice as large":  {settings{"alpha_pattern": settings{"layers.1.self_attn.v_proj": 32}}, nil, 1, true, true},
		"an alpha thrice as large": {settings{"alpha_pattern": settings{`layers\.[12]\..*v_proj`: 48}}, nil, 2, false, false},
		"alpha and rank": {settings{"rank_pattern": settings{"model.layers.2.mlp.up_proj": 3}, "alpha_pattern": settings{"up_proj": 24}},
			larger("layers.2.mlp.up_proj", 3), 23, false, false}, // alpha 0 leaves two factors of 6, alpha 16 three of 1.5
	} {
		t.Run(name, func(t *testing.T) {
			model := tinyLlama(t)
			m := mustModel(t, model)
			f := peftFolder(m, 4, everySite)
			maps.Copy(f.config, tt.config)
			if tt.rank != nil {
				clear(f.shapes)
				for _, mod := range m.modules {
					f.add(mod.name, tt.rank(mod), mod)
				}
			}
			peft := f.write(t)
			want := deltas(t, peft, m)
			for to, exact := range map[Format]bool{GGUF: tt.gguf, MLX: tt.mlx} {
				via, r := mustRun(t, peft, to, model)
				if to == GGUF && len(r.Folded) != tt.folded {
					t.Errorf("folded %v, want %d", r.Folded, tt.folded)
				}
				sameDeltas(t, deltas(t, via, m), want)
				back, _ := mustRun(t, via, PEFT, model)
				sameDeltas(t, deltas(t, back, m), want)
				if exact {
					sameFile(t, filepath.Join(back, peftWeights), filepath.Join(peft, peftWeights))
				}
			}
		})
	}
}

// What moves elements keeps their type; BF16 becomes F32 in a GGUF, with the same
// values.
func TestTypes(t *testing.T) {
	model := tinyLlama(t)
	m := mustModel(t, model)
	for _, tt := range []struct {
		dtype safetensors.DType
		want  string // in the GGUF
	}{{safetensors.F32, "f32"}, {safetensors.F16, "f16"}, {safetensors.BF16, "f32"}} {
		f := peftFolder(m, 4, everySite)
		f.dtype = tt.dtype
		peft := f.write(t)
		lora, _ := mustRun(t, peft, GGUF, model)
		for name, text := range ggufTensors(t, lora) {
			if !strings.HasPrefix(text, tt.want+" ") {
				t.Errorf("%s: tensor %q is %.4s, want %s", tt.dtype, name, text, tt.want)
			}
		}
		want := deltas(t, peft, m)
		sameDeltas(t, deltas(t, lora, m), want)
		mlx, _ := mustRun(t, peft, MLX, model)
		back, _ := mustRun(t, mlx, PEFT, model)
		sameFile(t, filepath.Join(back, peftWeights), filepath.Join(peft, peftWeights))
		if back, _ = mustRun(t, lora, PEFT, model); tt.dtype != safetensors.BF16 {
			sameFile(t, filepath.Join(back, peftWeights), filepath.Join(peft, peftWeights))
		}
		sameDeltas(t, deltas(t, back, m), want)
	}
}

// Modules are named so that PEFT adapts exactly those.
func TestTargetsAreExact(t *testing.T) {
	gpt2, llama := gpt2Header(t), tinyLlama(t)
	for name, tt := range map[string]struct {
		model string
		want  func(mod module) bool
		names []string
	}{
		"one kind":            {llama, func(mod module) bool { return strings.HasSuffix(mod.name, "q_proj") }, []string{"q_proj"}},
		"one layer":           {llama, func(mod module) bool { return mod.layer == 1 && strings.HasSuffix(mod.name, "q_proj") }, []string{"model.layers.1.self_attn.q_proj"}},
		"head and embeddings": {llama, func(mod module) bool { return mod.layer < 0 }, []string{"embed_tokens", "lm_head"}},
		"one of two c_proj":   {gpt2, func(mod module) bool { return strings.HasSuffix(mod.name, "mlp.c_proj") }, []string{"mlp.c_proj"}},
		"both c_proj":         {gpt2, func(mod module) bool { return strings.HasSuffix(mod.name, "c_proj") }, []string{"c_proj"}},
	} {
		m := mustModel(t, tt.model)
		lora, _ := mustRun(t, peftFolder(m, 2, tt.want).write(t), GGUF, tt.model)
		back, _ := mustRun(t, lora, PEFT, tt.model)
		config, err := readPEFTConfig(back)
		if err != nil {
			t.Fatal(err)
		}
		if !slices.Equal(config.targets.names, tt.names) {
			t.Errorf("%s: target_modules %q, want %q", name, config.targets.names, tt.names)
		}
		for _, mod := range m.modules {
			if got := config.targeted(mod.name, mod.layer); got != tt.want(mod) {
				t.Errorf("%s: module %q targeted: %v, want %v", name, mod.name, got, tt.want(mod))
			}
		}
	}
}

// What deviates is named by the shortest end of a name that means it and nothing else.
func TestPatternsAreShort(t *testing.T) {
	model := tinyLlama(t)
	m := mustModel(t, model)
	for end, deviates := range map[string]func(mod module) bool{
		"q_proj":                          func(mod module) bool { return strings.HasSuffix(mod.name, "q_proj") },
		"model.layers.1.self_attn.q_proj": func(mod module) bool { return mod.layer == 1 && strings.HasSuffix(mod.name, "q_proj") },
	} {
		f := peftFolder(m, 4, func(mod module) bool { return mod.layer >= 0 && !deviates(mod) })
		f.config["rank_pattern"], f.config["alpha_pattern"] = map[string]any{end: 8}, map[string]any{end: 32} // one scale for all
		for _, mod := range m.modules {
			if deviates(mod) {
				f.add(mod.name, 8, mod)
			}
		}
		peft := f.write(t)
		lora, _ := mustRun(t, peft, GGUF, model)
		back, _ := mustRun(t, lora, PEFT, model)
		var got map[string]any
		if err := json.Unmarshal(readFile(t, filepath.Join(back, configFile)), &got); err != nil {
			t.Fatal(err)
		}
		for _, key := range []string{"rank_pattern", "alpha_pattern"} {
			if want := map[string]any{end: float64(f.config[key].(map[string]any)[end].(int))}; !reflect.DeepEqual(got[key], want) {
				t.Errorf("%s is %v, want %v", key, got[key], want)
			}
		}
		sameDeltas(t, deltas(t, back, m), deltas(t, peft, m))
	}
}

// A language model within a larger one keeps its names.
func TestWrappedNames(t *testing.T) {
	model := tinyLlama(t)
	m := mustModel(t, model)
	for _, wrapper := range []string{wrapperNew, wrapperOld} {
		f := peftFolder(m, 4, func(module) bool { return false })
		for _, mod := range m.modules {
			f.add(m.wrap(mod.name, wrapper), 4, mod)
		}
		peft := f.write(t)
		lora, _ := mustRun(t, peft, GGUF, model)
		back, _ := mustRun(t, lora, PEFT, model)
		sameFile(t, filepath.Join(back, peftWeights), filepath.Join(peft, peftWeights))
		config, err := readPEFTConfig(back)
		if err != nil {
			t.Fatal(err)
		}
		if !slices.Contains(config.targets.names, m.wrap("model.layers.0.self_attn.q_proj", wrapper)) {
			t.Errorf("target_modules %q, want whole names: what is beside the language model is not known", config.targets.names)
		}
		mlx, _ := mustRun(t, peft, MLX, model)
		if _, err := tensorOf(t, filepath.Join(mlx, mlxWeights), wrapperOld+"layers.0.self_attn.q_proj.lora_a"); err != nil {
			t.Error(err)
		}
		sameDeltas(t, deltas(t, mlx, m), deltas(t, peft, m))
		back, _ = mustRun(t, mlx, PEFT, model) // mlx-lm has one name for both; the one of today is the better guess
		if _, err := tensorOf(t, filepath.Join(back, peftWeights), peftPrefix+wrapperNew+"layers.0.self_attn.q_proj.lora_A.weight"); err != nil {
			t.Error(err)
		}
		sameDeltas(t, deltas(t, back, m), deltas(t, peft, m))
	}
}

func tensorOf(t *testing.T, path, name string) ([]byte, error) {
	t.Helper()
	f, err := safetensors.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	return f.Data(name)
}

// What mlx-lm computes: y += scale·(x·lora_a)·lora_b.
func TestMLXLayout(t *testing.T) {
	model := tinyLlama(t)
	m := mustModel(t, model)
	peft := peftFolder(m, 2, func(mod module) bool { return mod.layer == 2 && strings.HasSuffix(mod.name, "k_proj") }).write(t)
	mlx, _ := mustRun(t, peft, MLX, model)
	const name = "model.layers.2.self_attn.k_proj"
	a, err := tensorOf(t, filepath.Join(mlx, mlxWeights), name+".lora_a")
	if err != nil {
		t.Fatal(err)
	}
	in := 64
	want := noise(peftPrefix+name+".lora_A.weight", 2*in)
	for row := range in {
		for k := range 2 {
			got := math.Float32frombits(uint32(a[(row*2+k)*4]) | uint32(a[(row*2+k)*4+1])<<8 | uint32(a[(row*2+k)*4+2])<<16 | uint32(a[(row*2+k)*4+3])<<24)
			if got != want[k*in+row] {
				t.Fatalf("lora_a[%d][%d] = %v, want A[%d][%d] = %v", row, k, got, k, row, want[k*in+row])
			}
		}
	}
	type settings struct {
		Model        string
		Finetune     any    // ours, where there is something to say
		FineTuneType string `json:"fine_tune_type"`
		NumLayers    int    `json:"num_layers"`
		Parameters   struct {
			Rank    int
			Scale   float64
			Dropout *float64
			Keys    []string
		} `json:"lora_parameters"`
	}
	read := func(dir string) (config settings) {
		if err := json.Unmarshal(readFile(t, filepath.Join(dir, configFile)), &config); err != nil {
			t.Fatal(err)
		}
		return config
	}
	config := read(mlx)
	p := config.Parameters
	if config.Model != "some/model" || config.Finetune != nil || config.FineTuneType != "lora" || config.NumLayers != 1 || p.Rank != 2 || p.Scale != 8 || p.Dropout == nil || !slices.Equal(p.Keys, []string{"self_attn.k_proj"}) {
		t.Errorf("config = %+v, want the last layer's k_proj, rank 2, scale 16/2", config)
	}
	first, _ := mustRun(t, peftFolder(m, 2, func(s module) bool { return s.layer == 0 && strings.HasSuffix(s.name, "k_proj") }).write(t), MLX, model)
	if c := read(first); c.NumLayers != 3 || !slices.Equal(c.Parameters.Keys, []string{"self_attn.k_proj"}) {
		t.Errorf("config = %+v, want k_proj in all three layers: mlx-lm counts from the last", c)
	}
}

// An aLoRA keeps the tokens that switch it on, where the format has them.
func TestInvocationTokens(t *testing.T) {
	model := tinyLlama(t)
	var peft string
	for _, tokens := range [][]uint32{{5}, {5, 6, 7}} {
		f := peftFolder(mustModel(t, model), 4, everySite)
		f.config["alora_invocation_tokens"] = tokens
		peft = f.write(t)
		lora, _ := mustRun(t, peft, GGUF, model)
		back, _ := mustRun(t, lora, PEFT, model)
		config, err := readPEFTConfig(back)
		if err != nil || !slices.Equal(config.invocation, tokens) {
			t.Errorf("tokens %v, %v, want those of the original, %v", config.invocation, err, tokens)
		}
	}
	if _, err := Run(Config{From: peft, To: MLX, Model: model, Out: filepath.Join(t.TempDir(), "x")}); err == nil {
		t.Error("an aLoRA to MLX: no error")
	}
}

// What llama.cpp's converter notes of the base, and what apps show of an adapter.
func TestKeysOfOthers(t *testing.T) {
	model := tinyLlama(t)
	lora, _ := mustRun(t, peftFolder(mustModel(t, model), 4, everySite).write(t), GGUF, model)
	other := ggufAdapter(t, lora, map[string]any{keyHFModel: nil, "general.base_model.0.repo_url": "https://huggingface.co/some/one",
		"adapter.lora.prompt_prefix": "Answer: "}, nil)
	back, r := mustRun(t, other, PEFT, model)
	config, err := readPEFTConfig(back)
	if err != nil || config.baseName != "some/one" {
		t.Errorf("base_model_name_or_path = %q, %v, want some/one", config.baseName, err)
	}
	if len(r.Notes) != 1 || !strings.Contains(r.Notes[0], `prompt_prefix is left out: it is "Answer: "`) {
		t.Errorf("notes %q, want one on prompt_prefix", r.Notes)
	}
	_, r = mustRun(t, ggufAdapter(t, lora, map[string]any{keyHFModel: nil}, nil), PEFT, model)
	if len(r.Notes) != 1 || !strings.Contains(r.Notes[0], "base_model_name_or_path is not known") {
		t.Errorf("notes %q, want one on the base's name", r.Notes)
	}
}
