package hostile

import (
	"encoding/binary"
	"math"
	"math/rand/v2"
	"slices"
	"strings"

	"finetune/gguf"
)

// mutation changes one thing of a file and says what, for people; "" where the file has nothing of the kind.
type mutation func(*rand.Rand, *rawFile) string

// mutations with their weights: what lies deep behind the header's syntax is taken more often.
var mutations = []struct {
	weight int
	mutate mutation
}{
	{6, setTokenizer}, {24, setNumber}, {4, setKind}, {5, dropKey}, {1, repeatKey}, {4, renameKey}, {24, addKey}, {16, changeArray}, {8, setString},
	{4, otherArchitecture}, {8, setDimension}, {8, resize}, {10, setType}, {3, renameTensor}, {4, dropTensor}, {4, swapTensors},
	{2, shiftData}, {8, damageData}, {1, lie},
}

// MutateModel returns a GGUF file with one to four things changed, most often one, and their names. b has to be a valid file.
func MutateModel(r *rand.Rand, b []byte) (mutated []byte, what string) {
	f := parse(b)
	var done []string
	for n := 1 + min(r.IntN(8), r.IntN(8), r.IntN(8))/2; len(done) < n; {
		if s := pickMutation(r)(r, f); s != "" {
			done = append(done, s)
		}
	}
	b = f.encode()
	if r.IntN(16) == 0 {
		var s string
		b, s = mutateBytes(r, b)
		done = append(done, s)
	}
	return b, strings.Join(done, ", ")
}

func pickMutation(r *rand.Rand) mutation {
	all := 0
	for _, m := range mutations {
		all += m.weight
	}
	n := r.IntN(all)
	for _, m := range mutations {
		if n -= m.weight; n < 0 {
			return m.mutate
		}
	}
	panic("unreachable")
}

func pick[T any](r *rand.Rand, all []T) T { return all[r.IntN(len(all))] }

// Numbers that lie at the edges of something.
var (
	wholes = []int64{0, 1, 2, 3, 4, 5, 7, 8, 15, 16, 31, 32, 33, 63, 64, 65, 100, 127, 128, 255, 256, 257, 511, 512, 1000, 1024, 4096, 32767, 32768, 65535, 65536,
		1 << 20, 1 << 24, 1<<31 - 1, 1 << 31, 1<<32 - 1, 1 << 32, 1 << 40, 1<<62 + 1, math.MaxInt64, -1, -2, -64, math.MinInt32, math.MinInt64}
	reals = []float64{0, 1, -1, 0.5, 2, 1e-5, 1e-30, 1e-45, 1e-40, 1e30, 3.4e38, -3.4e38, math.Inf(1), math.Inf(-1), math.NaN(), 10000, 1e6, math.Copysign(0, -1)}
)

// number returns the bytes of a number of a kind that lies at an edge, or beside the one that was.
func number(r *rand.Rand, kind gguf.Kind, was []byte) []byte {
	le := binary.LittleEndian
	n := pick(r, wholes)
	if r.IntN(2) == 0 {
		n = pick(r, wholes[:16]) // what is likely to be taken
	}
	if len(was) >= widths[kind] && r.IntN(3) == 0 {
		old := make([]byte, 8)
		copy(old, was[:widths[kind]])
		n = int64(le.Uint64(old)) + pick(r, []int64{-1, 1, 2, -2, 8, 64})
		if r.IntN(3) == 0 {
			n = int64(le.Uint64(old)) * pick(r, []int64{2, 3, 4, 100})
		}
	}
	x := pick(r, reals)
	switch kind {
	case gguf.KindBool:
		if r.IntN(16) > 0 {
			return []byte{byte(r.IntN(2))}
		}
	case gguf.KindFloat32:
		return le.AppendUint32(nil, math.Float32bits(float32(x)))
	case gguf.KindFloat64:
		return le.AppendUint64(nil, math.Float64bits(x))
	}
	return le.AppendUint64(nil, uint64(n))[:widths[kind]]
}

func isNumber(k rawKey) bool { return widths[k.kind] > 0 }

// any returns a random key for which want holds; nil for none.
func (f *rawFile) any(r *rand.Rand, want func(rawKey) bool) *rawKey {
	var found []int
	for i, k := range f.keys {
		if want(k) {
			found = append(found, i)
		}
	}
	if len(found) == 0 {
		return nil
	}
	return &f.keys[pick(r, found)]
}

func setNumber(r *rand.Rand, f *rawFile) string {
	k := f.any(r, isNumber)
	if k == nil {
		return ""
	}
	k.value = number(r, k.kind, k.value)
	return "number of " + k.name
}

var numberKinds = []gguf.Kind{gguf.KindUint8, gguf.KindInt8, gguf.KindUint16, gguf.KindInt16, gguf.KindUint32, gguf.KindInt32, gguf.KindFloat32, gguf.KindBool, gguf.KindUint64,
	gguf.KindInt64, gguf.KindFloat64}

func setKind(r *rand.Rand, f *rawFile) string {
	k := f.any(r, func(rawKey) bool { return true })
	if k == nil {
		return ""
	}
	switch r.IntN(4) {
	case 0:
		k.kind, k.value = gguf.KindString, text("llama")
	case 1:
		k.kind, k.value = gguf.KindArray, array(gguf.KindUint32, 1, binary.LittleEndian.AppendUint32(nil, 4))
	default:
		kind := pick(r, numberKinds)
		k.kind, k.value = kind, number(r, kind, k.value)
	}
	return "kind of " + k.name
}

func text(s string) []byte {
	return append(binary.LittleEndian.AppendUint64(nil, uint64(len(s))), s...)
}

func array(of gguf.Kind, n int, elements []byte) []byte {
	b := binary.LittleEndian.AppendUint32(nil, uint32(of))
	return append(binary.LittleEndian.AppendUint64(b, uint64(n)), elements...)
}

func dropKey(r *rand.Rand, f *rawFile) string {
	if len(f.keys) == 0 {
		return ""
	}
	i := r.IntN(len(f.keys))
	name := f.keys[i].name
	f.keys = slices.Delete(f.keys, i, i+1)
	return "no " + name
}

func repeatKey(r *rand.Rand, f *rawFile) string {
	k := f.any(r, func(rawKey) bool { return true })
	if k == nil {
		return ""
	}
	f.keys = append(f.keys, *k)
	return "twice " + k.name
}

func renameKey(r *rand.Rand, f *rawFile) string {
	a, b := f.any(r, func(rawKey) bool { return true }), f.any(r, func(rawKey) bool { return true })
	if a == nil {
		return ""
	}
	a.name, b.name = b.name, a.name
	return "values swapped of " + a.name + " and " + b.name
}

// addKey sets a key that llama.cpp knows and the file need not have.
func addKey(r *rand.Rand, f *rawFile) string {
	name := pick(r, knownKeys)
	if !strings.Contains(name, "tokenizer.") && !strings.HasPrefix(name, "general.") && !strings.HasPrefix(name, "split.") {
		name = f.architecture() + "." + name
	}
	k := rawKey{name: name}
	switch kind := pick(r, []gguf.Kind{gguf.KindUint32, gguf.KindUint32, gguf.KindFloat32, gguf.KindBool, gguf.KindString, gguf.KindArray}); kind {
	case gguf.KindString:
		k.kind, k.value = kind, text(pick(r, texts))
	case gguf.KindArray:
		of := pick(r, []gguf.Kind{gguf.KindUint32, gguf.KindInt32, gguf.KindFloat32, gguf.KindBool})
		var all []byte
		n := pick(r, []int{0, 1, 2, 3, 4, 8, 512, 513, 5000})
		for range n {
			all = append(all, number(r, of, nil)...)
		}
		k.kind, k.value = kind, array(of, n, all)
	default:
		k.kind, k.value = kind, number(r, kind, nil)
	}
	if old := f.key(name); old != nil {
		*old = k
	} else {
		f.keys = append(f.keys, k)
	}
	return "sets " + name
}

func (f *rawFile) architecture() string {
	if k := f.key("general.architecture"); k != nil && k.kind == gguf.KindString {
		return string(k.value[8:])
	}
	return "llama"
}

// changeArray changes the elements of an array, their number or their kind.
func changeArray(r *rand.Rand, f *rawFile) string {
	k := f.any(r, func(k rawKey) bool { return k.kind == gguf.KindArray })
	if k == nil {
		return ""
	}
	c := &cursor{b: k.value}
	of, n := gguf.Kind(c.u32()), int(c.u64())
	elements := make([][]byte, n)
	for i := range elements {
		begin := c.at
		c.value(of)
		elements[i] = k.value[begin:c.at]
	}
	switch r.IntN(7) {
	case 0: // fewer
		elements = elements[:pick(r, []int{0, min(1, n), n / 2, max(n-1, 0)})]
	case 1: // more
		for range pick(r, []int{1, 2, 300}) {
			if n > 0 {
				elements = append(elements, pick(r, elements[:n]))
			}
		}
	case 2: // the same twice
		if n > 1 {
			for range 1 + r.IntN(3) {
				elements[r.IntN(n)] = pick(r, elements)
			}
		}
	case 3: // another kind
		of = pick(r, append(numberKinds, gguf.KindString))
		for i := range elements {
			if elements[i] = []byte{0, 0, 0, 0, 0, 0, 0, 0}; widths[of] > 0 {
				elements[i] = number(r, of, nil)
			}
		}
	case 4: // all of them
		for i := range elements {
			elements[i] = element(r, of, elements[i])
		}
	default: // some of them
		for range 1 + r.IntN(4) {
			if n > 0 {
				i := r.IntN(n)
				elements[i] = element(r, of, elements[i])
			}
		}
	}
	k.value = array(of, len(elements), slices.Concat(elements...))
	return "elements of " + k.name
}

func element(r *rand.Rand, of gguf.Kind, was []byte) []byte {
	switch {
	case of == gguf.KindString:
		return text(pick(r, texts))
	case widths[of] > 0:
		return number(r, of, was)
	}
	return was
}

// texts are values of strings that mean something somewhere.
var texts = []string{"", "\x00", "\xff\xfe", "a b", "a b c", " ", "\n", "▁", "Ġ", "<0x0A>", "<0xZZ>", "<s>", "llama", "gpt2", "bert", "t5", "rwkv", "plamo2", "none", "no_vocab", "default", "llama-bpe",
	"qwen2", "deepseek-llm", "yarn", "linear", "longrope", "swa", "{{ messages }}", "{% for m in messages %}{{ m.content }}", "{{ 10 ** 10 ** 10 }}", "{{ 'a' * 1000000000 }}",
	strings.Repeat("a", 1<<16), strings.Repeat("é", 1000), strings.Repeat("[", 5000), "😀", "%s%n%d", "../../etc/passwd", "\u202e", "Hello", "chatml", "gemma4", "whitespace"}

// setTokenizer makes the vocabulary one of another kind, with what that kind reads besides tokens.
func setTokenizer(r *rand.Rand, f *rawFile) string {
	set := func(name string, kind gguf.Kind, value []byte) {
		if k := f.key(name); k != nil {
			k.kind, k.value = kind, value
		} else {
			f.keys = append(f.keys, rawKey{name, kind, value})
		}
	}
	kind, pre := pick(r, knownTokenizers), pick(r, knownPretokenizers)
	if r.IntN(3) > 0 {
		set("tokenizer.ggml.model", gguf.KindString, text(kind))
	}
	set("tokenizer.ggml.pre", gguf.KindString, text(pre))
	if kind == "t5" && r.IntN(2) == 0 { // a table of characters: the length of a trie, the trie, texts
		n := pick(r, []int{0, 3, 4, 5, 16, 400, 5000})
		b := make([]byte, n)
		for i := range b {
			b[i] = byte(r.Uint32())
		}
		if n >= 4 {
			binary.LittleEndian.PutUint32(b, uint32(pick(r, []int{0, 4, 8, n / 2, n - 4, n - 5, n, 1<<31 - 1})))
		}
		set("tokenizer.ggml.precompiled_charsmap", gguf.KindArray, array(gguf.KindUint8, n, b))
	}
	return "tokenizer " + kind + " " + pre
}

func setString(r *rand.Rand, f *rawFile) string {
	k := f.any(r, func(k rawKey) bool { return k.kind == gguf.KindString })
	if k == nil {
		return ""
	}
	k.value = text(pick(r, texts))
	return "text of " + k.name
}

// otherArchitecture makes the file one of another architecture, with all of its keys renamed, most of the time.
func otherArchitecture(r *rand.Rand, f *rawFile) string {
	k := f.key("general.architecture")
	if k == nil {
		return ""
	}
	old, name := f.architecture(), pick(r, knownArchitectures)
	k.kind, k.value = gguf.KindString, text(name)
	if r.IntN(8) > 0 {
		for i := range f.keys {
			if end, ok := strings.CutPrefix(f.keys[i].name, old+"."); ok {
				f.keys[i].name = name + "." + end
			}
		}
	}
	return "architecture " + name
}

// mutateBytes damages any file without knowing what it is.
func mutateBytes(r *rand.Rand, b []byte) ([]byte, string) {
	b = slices.Clone(b)
	if len(b) == 0 {
		return []byte{0}, "a byte"
	}
	switch r.IntN(6) {
	case 0:
		return b[:r.IntN(len(b))], "cut"
	case 1:
		i := r.IntN(len(b))
		return slices.Concat(b[:i], b[i/2:]), "a piece twice"
	case 2:
		i := r.IntN(len(b))
		return slices.Delete(b, i, min(i+1+r.IntN(64), len(b))), "a piece missing"
	case 3:
		return append(b, make([]byte, r.IntN(5000))...), "zeros at the end"
	}
	for range 1 + r.IntN(8) {
		i := r.IntN(len(b))
		if r.IntN(2) == 0 {
			i = r.IntN(min(len(b), 4096)) // where the structure is
		}
		b[i] = pick(r, []byte{0, 1, 0x7f, 0x80, 0xff, b[i] ^ 1<<r.IntN(8), byte(r.Uint32())})
	}
	return b, "bytes"
}
