package convert

import (
	"encoding/json"
	"errors"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"finetune/convert/safetensors"
	"finetune/internal/hint"
	"finetune/internal/need"
	"finetune/internal/testmodel"
)

// The bases of the adapters in testdata, in shape.
func savedLlama(t *testing.T) string {
	return testmodel.Path(t, testmodel.Spec{Arch: "llama", Layers: 2, Embd: 32, Heads: 4, HeadsKV: 2, FF: 64, Vocab: 640})
}

func savedGPT2(t *testing.T) string {
	return testmodel.Path(t, testmodel.Spec{Arch: "gpt2", Layers: 2, Embd: 32, Heads: 4, HeadsKV: 4, FF: 64, Vocab: 640, Tied: true})
}

// Adapters that PEFT saved come back from GGUF and from MLX as they were: every byte of the factors, and what the
// configuration says.
func TestSavedByPEFTComesBackByteForByte(t *testing.T) {
	for _, tt := range []struct {
		name          string
		folder        func(t *testing.T) string
		model         func(t *testing.T) string
		modules, rank int
		alpha, scale  float64
	}{
		{"llama", own("peft-llama"), savedLlama, 14, 2, 6, 3},
		{"gpt2", own("peft-gpt2"), savedGPT2, 8, 2, 4, 2},
		{"gpt2 of 12 layers", func(t *testing.T) string { return need.Shared(t, "adapters/peft-gpt2-r8") }, gpt2Header, 36, 8, 32, 4},
	} {
		t.Run(tt.name, func(t *testing.T) {
			peft, model := tt.folder(t), tt.model(t)
			lora, r := mustRun(t, peft, GGUF, model)
			if r.Modules != tt.modules || r.RankMin != tt.rank || r.RankMax != tt.rank || r.Alpha != tt.alpha || r.ScaleMin != tt.scale || len(r.Folded) != 0 {
				t.Errorf("report = %+v, want %d modules of rank %d, alpha %v, nothing folded", r, tt.modules, tt.rank, tt.alpha)
			}
			back, _ := mustRun(t, lora, PEFT, model)
			sameFile(t, filepath.Join(back, peftWeights), filepath.Join(peft, peftWeights))
			got, want := settingsOf(t, back), settingsOf(t, peft)
			for key, value := range got {
				if key == "lora_dropout" { // of training; nothing remembers it
					continue
				}
				if !reflect.DeepEqual(sorted(value), sorted(want[key])) {
					t.Errorf("%s is %v, want %v as in the original", key, value, want[key])
				}
			}
			mlx, _ := mustRun(t, peft, MLX, model)
			again, _ := mustRun(t, mlx, PEFT, model)
			sameFile(t, filepath.Join(again, peftWeights), filepath.Join(peft, peftWeights))
		})
	}
}

func own(folder string) func(t *testing.T) string {
	return func(t *testing.T) string { return need.Own(t, "convert/testdata/"+folder) }
}

func settingsOf(t *testing.T, folder string) (settings map[string]any) {
	t.Helper()
	if err := json.Unmarshal(readFile(t, filepath.Join(folder, configFile)), &settings); err != nil {
		t.Fatal(err)
	}
	return settings
}

// sorted turns a list of names into a set: PEFT writes one in any order.
func sorted(v any) any {
	list, ok := v.([]any)
	if !ok {
		return v
	}
	set := map[any]bool{}
	for _, name := range list {
		set[name] = true
	}
	return set
}

// Patterns of ranks and alphas under rank stabilization have the same effect in every format.
func TestSavedPatternsKeepTheirEffect(t *testing.T) {
	peft, model := own("peft-llama-patterns")(t), savedLlama(t)
	m := mustModel(t, model)
	want := deltas(t, peft, m)
	if len(want) != 8 {
		t.Fatalf("%d modules, want q, k, v and down of 2 layers", len(want))
	}
	for _, to := range []Format{GGUF, MLX} {
		via, r := mustRun(t, peft, to, model)
		if r.RankMin != 1 || r.RankMax != 3 || len(r.Folded) == 0 {
			t.Errorf("%s: report %+v, want ranks 1 to 3 and scales folded into B", to, r)
		}
		sameDeltas(t, deltas(t, via, m), want)
		back, _ := mustRun(t, via, PEFT, model)
		sameDeltas(t, deltas(t, back, m), want)
	}
}

// What mlx-lm's training saved comes back from GGUF with the same tensors and settings.
func TestSavedByMLXComesBack(t *testing.T) {
	mlx, model := own("mlx-llama")(t), savedLlama(t)
	lora, r := mustRun(t, mlx, GGUF, model)
	if r.Modules != 7 || r.RankMax != 2 || r.Alpha != 6 || r.ScaleMin != 3 {
		t.Errorf("report = %+v, want the 7 modules of the last layer, rank 2, scale 3", r)
	}
	back, _ := mustRun(t, lora, MLX, model)
	got, want := tensorsOf(t, filepath.Join(back, mlxWeights)), tensorsOf(t, filepath.Join(mlx, mlxWeights))
	if !reflect.DeepEqual(got, want) {
		t.Errorf("tensors %v, want %v", got, want)
	}
	was, is := settingsOf(t, mlx), settingsOf(t, back)
	for _, key := range []string{"fine_tune_type", "num_layers"} {
		if is[key] != was[key] {
			t.Errorf("%s is %v, want %v", key, is[key], was[key])
		}
	}
	wasLoRA, isLoRA := was["lora_parameters"].(map[string]any), is["lora_parameters"].(map[string]any)
	for _, key := range []string{"rank", "scale"} {
		if isLoRA[key] != wasLoRA[key] {
			t.Errorf("%s is %v, want %v", key, isLoRA[key], wasLoRA[key])
		}
	}
}

// A DoRA of mlx-lm has no way to the other formats.
func TestSavedByMLXAsDoRAIsRefused(t *testing.T) {
	_, err := Run(Config{From: own("mlx-llama-dora")(t), To: GGUF, Model: savedLlama(t), Out: filepath.Join(t.TempDir(), "out")})
	if refused := (*UnsupportedError)(nil); !errors.As(err, &refused) || !strings.Contains(err.Error(), `fine_tune_type is "dora", want "lora"`) || len(hint.Of(err)) == 0 {
		t.Errorf("Run = %v, want an *UnsupportedError with a hint", err)
	}
}

// tensorsOf are the shapes and bytes of a file, by name.
func tensorsOf(t *testing.T, path string) map[string][]any {
	t.Helper()
	f, err := safetensors.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	all := map[string][]any{}
	for _, tensor := range f.Tensors() {
		data, err := f.Data(tensor.Name)
		if err != nil {
			t.Fatal(err)
		}
		all[tensor.Name] = []any{tensor.DType, tensor.Shape, string(data)}
	}
	return all
}
