package archtest

import (
	"encoding/json"
	"errors"
	"io"
	"math"
	"os/exec"
	"slices"
	"strings"
	"testing"
)

const (
	module = "finetune"
	native = "github.com/go-skynet/go-llama.cpp"
	cgo    = "kernels" // the only folder of this module that may import "C"
)

// layer is a folder and its sub-folders with their place in the import order.
type layer struct {
	path   string
	rank   int  // a package imports none of a higher rank
	native bool // may import third_party
}

// layers is the import order. A new package needs a place in it.
var layers = []layer{
	{"internal/atomicfile", 0, false},
	{"internal/hint", 0, false},
	{"internal/machine", 0, false},
	{"internal/setting", 0, false},
	{"internal/version", 0, false},
	{"internal/tfevents", 0, false},
	{"internal/near", 0, false},
	{"internal/output", 1, false},
	{"gguf", 1, false},
	{"imatrix", 2, false},
	{"quant/plain", 2, false},
	{"quant", 2, true},
	{"device", 3, true},
	{"model/native", 4, true},
	{"model", 2, false},
	{"newmodel", 2, false},
	{"ngram", 2, false},
	{"adapter/fileops", 4, false},
	{cgo, 2, true},
	{"adapter", 3, true},
	{"chat", 3, false},
	{"classify", 2, false},
	{"convert", 4, false},
	{"merge", 4, false},
	{"models", 4, false},
	{"run", 5, false},
	{"internal/inspect", 6, false},
	{"ollama", 6, true},
	{"trainer/optim", 7, false}, // from here on what trains, which those above do without
	{"trainer/data", 7, false},
	{"trainer/graph", 8, true},
	{"eval", 9, true},
	{"trainer/bench", 11, true},
	{"trainer", 10, true},
	{"serve", 10, false},
	{"export", 11, true},
	{"demo", 12, true},
	{"cmd", 13, true},
	{"scripts", 13, true}, // programs for work on the project
}

// forTests are packages that only tests may import, and each other.
var forTests = []string{"internal/archtest", "internal/hostile", "internal/llamachat", "internal/near", "internal/need", "internal/testdevice", "internal/testmodel", "internal/testrun", "internal/testrun/trained", "third_party"}

// listed is what `go list -json` says of a package.
type listed struct {
	ImportPath string
	Imports    []string
	CgoFiles   []string
}

// folder returns the package's path below the module.
func (p listed) folder() string {
	return strings.TrimPrefix(strings.TrimPrefix(p.ImportPath, module), "/")
}

// layerOf returns the layer that a folder is in; ok is false if it has none.
func layerOf(folder string) (layer, bool) {
	for _, l := range layers {
		if folder == l.path || strings.HasPrefix(folder, l.path+"/") {
			return l, true
		}
	}
	return layer{}, false
}

// complaints returns what is wrong with the imports of one package.
func complaints(p listed) []string {
	var found []string
	complain := func(text string) { found = append(found, p.ImportPath+" "+text) }
	if len(p.CgoFiles) > 0 && p.folder() != cgo {
		complain(`imports "C" in ` + p.CgoFiles[0] + ": only third_party and " + cgo + " may")
	}
	own, placed := layerOf(p.folder())
	test := slices.Contains(forTests, p.folder())
	if test {
		own, placed = layer{p.folder(), math.MaxInt, true}, true
	}
	if !placed {
		complain("has no place in the import order: give it one in internal/archtest")
	}
	for _, path := range p.Imports {
		folder, ours := strings.CutPrefix(path, module+"/")
		imported, _ := layerOf(folder)
		switch {
		case ours && !test && slices.Contains(forTests, folder):
			complain("imports " + path + ": only tests may")
		case ours && imported.rank > own.rank:
			complain("imports " + path + ", which comes after it in the import order")
		case (path == native || strings.HasPrefix(path, native+"/")) && !own.native:
			complain("imports " + path + ": it must stay free of native code")
		case own.path == "gguf" && !ours && strings.Contains(strings.Split(path, "/")[0], "."):
			complain("imports " + path + ": gguf needs the standard library only")
		}
	}
	return found
}

// list returns the packages of this module.
func list(t *testing.T) []listed {
	t.Helper()
	out, err := exec.Command("go", "list", "-json=ImportPath,Imports,CgoFiles", module+"/...").Output()
	if exit := (*exec.ExitError)(nil); errors.As(err, &exit) {
		t.Fatalf("go list: %s", exit.Stderr)
	} else if err != nil {
		t.Fatal(err)
	}
	var packages []listed
	for dec := json.NewDecoder(strings.NewReader(string(out))); ; {
		var p listed
		if err := dec.Decode(&p); err == io.EOF {
			return packages
		} else if err != nil {
			t.Fatal(err)
		}
		packages = append(packages, p)
	}
}

func TestImportOrder(t *testing.T) {
	packages := list(t)
	if len(packages) < len(layers) {
		t.Fatalf("go list found %d packages, want %d or more", len(packages), len(layers))
	}
	for _, p := range packages {
		for _, text := range complaints(p) {
			t.Error(text)
		}
	}
}

func TestImportOrderIsEnforced(t *testing.T) {
	for _, tt := range []struct {
		name string
		p    listed
		want string // "" = nothing to complain of
	}{
		{"left of it", listed{ImportPath: "finetune/trainer", Imports: []string{"finetune/gguf", "fmt", native}}, ""},
		{"right of it", listed{ImportPath: "finetune/gguf", Imports: []string{"finetune/trainer/data"}}, "finetune/gguf imports finetune/trainer/data, which comes after it in the import order"},
		{"native code in a pure package", listed{ImportPath: "finetune/quant/plain", Imports: []string{native + "/ggml"}}, "finetune/quant/plain imports github.com/go-skynet/go-llama.cpp/ggml: it must stay free of native code"},
		{"cgo", listed{ImportPath: "finetune/quant", CgoFiles: []string{"q.go"}}, `finetune/quant imports "C" in q.go: only third_party and kernels may`},
		{"cgo in the kernels", listed{ImportPath: "finetune/kernels", CgoFiles: []string{"q.go"}, Imports: []string{native + "/ggml"}}, ""},
		{"test helper in the program", listed{ImportPath: "finetune/cmd/finetune", Imports: []string{"finetune/internal/archtest"}}, "finetune/cmd/finetune imports finetune/internal/archtest: only tests may"},
		{"dependency of gguf", listed{ImportPath: "finetune/gguf", Imports: []string{"golang.org/x/sys/unix"}}, "finetune/gguf imports golang.org/x/sys/unix: gguf needs the standard library only"},
		{"a name that only begins alike", listed{ImportPath: "finetune/quantum"}, "finetune/quantum has no place in the import order: give it one in internal/archtest"},
	} {
		if got := strings.Join(complaints(tt.p), "; "); got != tt.want {
			t.Errorf("%s: complaints = %q, want %q", tt.name, got, tt.want)
		}
	}
}
