package adapter

import (
	"fmt"
	"slices"
	"strings"
)

// Method names a way to parametrise the change of a weight, as configuration files
// and command lines do.
type Method string

// The methods. What each of them is in the code stands in one table, see [Methods].
const (
	MethodDual   Method = "dual-lora" // ΔW = s·ReLU(B·A) ⊙ sign(D·C), arXiv 2512.03402
	MethodLoRA   Method = "lora"      // ΔW = s·B·A, arXiv 2106.09685
	MethodRSLoRA Method = "rslora"    // LoRA with s = alpha/√rank, arXiv 2312.03732
	MethodDoRA   Method = "dora"      // LoRA on W's rows and a magnitude for each, arXiv 2402.09353
)

// method is a row of the table. To add a method is to add its row, a type of
// [Factors] in a file of its own unless it shares that of another method, and how the
// training graph forms its product (trainer/graph).
type method struct {
	name    Method
	kind    *fileKind // how its factors are stored
	minRank int       // the smallest rank that it can be given

	// create returns zero factors for a weight [n_in, n_out]. Their scale is the
	// method's function of alpha and rank; an alpha of 0 is a scale of 1 for all.
	create func(nIn, nOut, rank int, alpha float32) Factors
}

// fileKind is a form in which factors are stored: a value of adapter.type.
type fileKind struct {
	method    Method // that the factors of a file are read as
	name      string // adapter.type, by which llama.cpp refuses what is not "lora"
	alphaKey  string
	needsBase bool     // ΔW depends on W: the factors are [based]
	factors   []stored // in the order of [Factors.Matrices]
	join      func(mats []Mat, alpha float32) Factors
}

// stored is a factor in a file. A dimension of one name is the same number in all
// factors of a weight.
type stored struct {
	suffix string
	ne     [2]string
}

// methods are all there are, the default first.
var methods = []method{
	{name: MethodDual, kind: &dualKind, minRank: 2, create: newDual},
	{name: MethodLoRA, kind: &loraKind, minRank: 1, create: newLoRA},
	{name: MethodRSLoRA, kind: &loraKind, minRank: 1, create: newRSLoRA},
	{name: MethodDoRA, kind: &doraKind, minRank: 1, create: newDoRA},
}

// fileKinds are all kinds of adapter files, that of llama.cpp first.
var fileKinds = []*fileKind{&loraKind, &dualKind, &doraKind}

// Methods lists the methods that there are, the default first.
func Methods() []Method {
	var names []Method
	for _, m := range methods {
		names = append(names, m.name)
	}
	return names
}

// row finds a method in the table, or returns an error that lists them all.
func (m Method) row() (method, error) {
	for _, row := range methods {
		if row.name == m {
			return row, nil
		}
	}
	return method{}, fmt.Errorf("adapter: method %q: want %s", string(m), quoted(Methods()))
}

// ParseMethod returns the method called s, or an error that lists them all.
func ParseMethod(s string) (Method, error) {
	row, err := Method(s).row()
	return row.name, err
}

// MinRank returns the smallest rank that the method can be given, and 0 for a method
// that there is not.
func (m Method) MinRank() int {
	row, _ := m.row()
	return row.minRank
}

// kind returns how the method's factors are stored, and nothing for a method that there
// is not.
func (m Method) kind() *fileKind {
	row, err := m.row()
	if err != nil {
		return &fileKind{}
	}
	return row.kind
}

// FileType returns the adapter.type of the method's files, and "" for a method that
// there is not. Files of type "lora" are those that llama.cpp loads.
func (m Method) FileType() string { return m.kind().name }

// AlphaKey returns the key of alpha in the method's files.
func (m Method) AlphaKey() string { return m.kind().alphaKey }

// Suffixes returns the ends of the factors' names in the method's files, behind the
// weight's name and a dot, in the order of [Factors.Matrices].
func (m Method) Suffixes() []string { return m.kind().suffixes() }

// MethodOfFile returns the method that files of an adapter.type are read as, and false
// for a type that is not known. An rsLoRA is stored as a LoRA and read as one.
func MethodOfFile(fileType string) (Method, bool) {
	kind, ok := kindCalled(fileType)
	if !ok {
		return "", false
	}
	return kind.method, true
}

func kindCalled(fileType string) (*fileKind, bool) {
	for _, k := range fileKinds {
		if k.name == fileType {
			return k, true
		}
	}
	return nil, false
}

// fileTypes lists the values of adapter.type.
func fileTypes() []string {
	var names []string
	for _, k := range fileKinds {
		names = append(names, k.name)
	}
	return names
}

// suffixes of the factors' names, in their order.
func (k *fileKind) suffixes() []string {
	var list []string
	for _, f := range k.factors {
		list = append(list, f.suffix)
	}
	return list
}

// check compares the shapes of a weight's factors with one another, and says what is
// wrong with the first that does not fit; "" if all do.
func (k *fileKind) check(mats []Mat) string {
	known := map[string]int{"1": 1}
	for i, f := range k.factors {
		var want [2]string
		fits := true
		for d, name := range f.ne {
			n, ok := known[name]
			if !ok {
				n, want[d] = mats[i].NE[d], name
				known[name] = n
			} else {
				want[d] = fmt.Sprint(n)
			}
			fits = fits && n == mats[i].NE[d]
		}
		if !fits {
			return fmt.Sprintf("%s is %v, want %v", f.suffix, mats[i].NE, want)
		}
	}
	return ""
}

// quoted lists names as in `"a", "b" or "c"`.
func quoted[S ~string](names []S) string {
	var all []string
	for _, n := range names {
		all = append(all, fmt.Sprintf("%q", string(n)))
	}
	last := len(all) - 1
	return strings.Join(slices.Concat(all[:max(0, last-1)], []string{strings.Join(all[max(0, last-1):], " or ")}), ", ")
}
