package convert

import (
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"finetune/adapter"
	"finetune/internal/testmodel"
)

// Every line of the table can be read, and no architecture names a module twice.
func TestNamesAreWellFormed(t *testing.T) {
	for arch, a := range architectures {
		seen := map[string]bool{}
		for _, l := range a.lines() {
			inLayer := strings.HasPrefix(l.tensor, "blk.*.")
			if inLayer != strings.Contains(l.module, "*") || strings.HasSuffix(l.tensor, "_exps.weight") != strings.Contains(l.module, "#") {
				t.Errorf("%s: %q and %q: layers or experts do not agree", arch, l.tensor, l.module)
			}
			if key := fmt.Sprint(l.tensor, l.module); seen[key] {
				t.Errorf("%s: %q twice", arch, key)
			} else {
				seen[key] = true
			}
			if _, err := l.order.of(96, 96, heads{4, 4, 1, 2}); err != nil {
				t.Errorf("%s: %q: order %q: %v", arch, l.tensor, l.order, err)
			}
		}
		if slices.Equal(a.mlx, noMLX) {
			continue
		}
		if len(a.mlx)%2 != 0 {
			t.Fatalf("%s: mlx has %d words, want old and new in turns", arch, len(a.mlx))
		}
		if strings.Contains(strings.NewReplacer(a.mlx...).Replace(a.names), "#") {
			t.Errorf("%s: experts have a name each in mlx-lm, want one for all", arch)
		}
	}
}

// withoutAdapter are matrices that llama.cpp reads without asking for an adapter.
var withoutAdapter = []string{"position_embd.weight", "token_types.weight", "per_layer_token_embd.weight", "per_layer_model_proj.weight"}

// Every matrix of every model that llama.cpp runs in these tests is a module, but for
// what no adapter works on; what this project trains can be converted.
func TestEveryMatrixHasAName(t *testing.T) {
	all, err := adapter.ParseTargets("all-linear")
	if err != nil {
		t.Fatal(err)
	}
	covered := map[string]bool{}
	for name, path := range everyModel(t) {
		m := mustModel(t, path)
		covered[m.Architecture] = true
		for _, tensor := range m.Tensors {
			_, known := m.byWeight[tensor.Name]
			filter := strings.HasSuffix(tensor.Name, "conv1d.weight") || strings.HasSuffix(tensor.Name, "shortconv.conv.weight")
			if matrix := len(tensor.Shape) > 1 && !slices.Contains(withoutAdapter, tensor.Name) && !filter; known != matrix {
				t.Errorf("%s: tensor %q: has a module: %v, want %v", name, tensor.Name, known, matrix)
			}
			if !known && all.Match(tensor.Name) && len(tensor.Shape) == 2 {
				t.Errorf("%s: tensor %q can be trained, but not converted", name, tensor.Name)
			}
		}
		for _, mod := range m.modules {
			if mod.mlx == "" != slices.Equal(m.mlx, noMLX) {
				t.Errorf("%s: module %q is %q in mlx-lm", name, mod.name, mod.mlx)
			}
		}
	}
	for arch := range architectures {
		if !covered[arch] {
			t.Errorf("architecture %q: no tiny model", arch)
		}
	}
	for _, v := range testmodel.Variants() {
		if _, known := architectures[v.Arch]; known == v.Unconverted {
			t.Errorf("architecture %q: known: %v, in testmodel: %v", v.Arch, known, !v.Unconverted)
		}
	}
}

// replacement is a line of the Go converter of Ollama: a module's name, and the tensor's.
var replacement = regexp.MustCompile(`"([a-z0-9_.]+)", "((?:attn|ffn|token_embd|output)[a-z_]*)"`)

// Another converter's tables say the same of the architectures that it has.
func TestNamesAgreeWithOllama(t *testing.T) {
	download := exec.Command("go", "mod", "download", "-json", "github.com/ollama/ollama") // go list has no folder before that
	download.Dir = filepath.Join("..", "apps")                                             // the module that needs it
	out, err := download.Output()
	if err != nil {
		t.Fatalf("go mod download: %v\n%s", err, out)
	}
	var module struct{ Dir string }
	if err := json.Unmarshal(out, &module); err != nil {
		t.Fatal(err)
	}
	for file, arch := range map[string]string{
		"llama": "llama", "mixtral": "llama", "commandr": "command-r", "gemma": "gemma", "gemma2": "gemma2", "gemma3": "gemma3",
		"phi3": "phi3", "qwen2": "qwen2", "qwen3": "qwen3", "olmo": "olmo2",
	} {
		text, err := os.ReadFile(filepath.Join(module.Dir, "convert", "convert_"+file+".go"))
		if err != nil {
			t.Errorf("%s: %v", arch, err)
			continue
		}
		theirs := map[string][]string{}
		for _, match := range replacement.FindAllStringSubmatch(string(text), -1) {
			if !strings.Contains(match[2], "norm") {
				theirs[match[2]] = append(theirs[match[2]], match[1])
			}
		}
		compared := 0
		for _, l := range architectures[arch].lines() {
			tensor := strings.TrimSuffix(strings.TrimPrefix(l.tensor, "blk.*."), ".weight")
			names, ok := theirs[tensor]
			if !ok {
				continue
			}
			compared++
			if !slices.ContainsFunc(names, func(name string) bool { return l.module == name || strings.HasSuffix(l.module, "."+name) }) {
				t.Errorf("%s: %q is %q, ollama has %q", arch, l.tensor, l.module, names)
			}
		}
		if compared == 0 {
			t.Errorf("%s: nothing to compare in %v", arch, slices.Sorted(maps.Keys(theirs)))
		}
	}
}
