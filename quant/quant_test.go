package quant

import (
	"bytes"
	"encoding/binary"
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	"finetune/gguf"
	"finetune/internal/near"
	"finetune/internal/need"
	"finetune/quant/plain"
)

func gaussian(seed uint64, n int) []float32 {
	rng := rand.New(rand.NewPCG(seed, 1))
	vs := make([]float32, n)
	for i := range vs {
		vs[i] = float32(rng.NormFloat64()) * 0.02
	}
	return vs
}

func ones(n int) []float32 {
	vs := make([]float32, n)
	for i := range vs {
		vs[i] = 1
	}
	return vs
}

// relativeBound is the RMSE of normally distributed weights, relative to their
// own, that each type may have: a tenth above what ggml's encoders reach, which
// random weights miss by less than a twentieth. The ternary tq types are made for
// weights that are ternary already and fit others badly.
var relativeBound = map[gguf.Type]float64{
	gguf.TypeF32: 0, gguf.TypeF16: 2.3e-4, gguf.TypeBF16: 1.9e-3, gguf.TypeQ8_0: 0.0059,
	gguf.TypeQ4_0: 0.090, gguf.TypeQ4_1: 0.077, gguf.TypeQ5_0: 0.045, gguf.TypeQ5_1: 0.037,
	gguf.TypeQ2_K: 0.30, gguf.TypeQ3_K: 0.16, gguf.TypeQ4_K: 0.078, gguf.TypeQ5_K: 0.039, gguf.TypeQ6_K: 0.019,
	gguf.TypeIQ1_S: 0.54, gguf.TypeIQ1_M: 0.50, gguf.TypeIQ2_XXS: 0.39, gguf.TypeIQ2_XS: 0.33, gguf.TypeIQ2_S: 0.28,
	gguf.TypeIQ3_XXS: 0.21, gguf.TypeIQ3_S: 0.155, gguf.TypeIQ4_NL: 0.083, gguf.TypeIQ4_XS: 0.083,
	gguf.TypeTQ1_0: 0.89, gguf.TypeTQ2_0: 0.89, gguf.TypeMXFP4: 0.125,
}

func TestRoundTripOfEveryType(t *testing.T) {
	if types := Types(); len(types) != len(relativeBound) {
		t.Errorf("%d types can be encoded, want %d: %v", len(types), len(relativeBound), types)
	}
	src := gaussian(1, 16*512)
	for typ, bound := range relativeBound {
		t.Run(typ.String(), func(t *testing.T) {
			if slowTables(typ) {
				need.Long(t, "ggml takes up to ten seconds to build the search tables of some types")
			}
			acc, err := RoundTrip(typ, src, 512, ones(512))
			if err != nil {
				t.Fatal(err)
			}
			if !near.Enough(acc.Relative, 0.0, bound) || !(acc.Max >= acc.RMSE) {
				t.Errorf("relative error %v, largest %v, want at most %v", acc.Relative, acc.Max, bound)
			}
		})
	}
}

func slowTables(t gguf.Type) bool { return NeedsImportance(t) || t == gguf.TypeIQ2_S }

func TestTernaryTypesAreExactOnTernaryWeights(t *testing.T) {
	src := make([]float32, 512)
	for i := range src {
		src[i] = 0.25 * float32(i%3-1)
	}
	for _, typ := range []gguf.Type{gguf.TypeTQ1_0, gguf.TypeTQ2_0} {
		if acc, err := RoundTrip(typ, src, 256, nil); err != nil || acc.Max != 0 {
			t.Errorf("%s: largest error %v, %v, want 0", typ, acc.Max, err)
		}
	}
}

// decodeQ4 is the definition of Q4_0: a half d and 32 numbers of 4 bits, the low
// ones of each byte first, x = d·(q - 8).
func decodeQ4(src []byte) []float32 {
	var dst []float32
	for ; len(src) > 0; src = src[18:] {
		d := plain.FromHalf(binary.LittleEndian.Uint16(src))
		for _, b := range src[2:18] {
			dst = append(dst, d*(float32(b&15)-8))
		}
		for _, b := range src[2:18] {
			dst = append(dst, d*(float32(b>>4)-8))
		}
	}
	return dst
}

func TestKernelsAgreeWithPlainGo(t *testing.T) {
	src := gaussian(2, 32*100)
	for _, typ := range []gguf.Type{gguf.TypeF32, gguf.TypeF16, gguf.TypeBF16, gguf.TypeQ8_0} {
		native, err := Encode(typ, src, 320, nil)
		if err != nil {
			t.Fatal(err)
		}
		inGo, err := plain.Append(nil, typ, src)
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(native, inGo) {
			t.Errorf("%s: ggml and plain Go encode to other bytes", typ)
		}
		got, want := make([]float32, len(src)), make([]float32, len(src))
		if err := Decode(typ, native, got); err != nil {
			t.Fatal(err)
		}
		if err := plain.Decode(typ, native, want); err != nil {
			t.Fatal(err)
		}
		if !slices.Equal(got, want) {
			t.Errorf("%s: ggml and plain Go decode to other values", typ)
		}
	}
	data, err := Encode(gguf.TypeQ4_0, src, 320, nil)
	if err != nil {
		t.Fatal(err)
	}
	got := make([]float32, len(src))
	if err := Decode(gguf.TypeQ4_0, data, got); err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(got, decodeQ4(data)) {
		t.Error("q4_0: ggml and plain Go decode to other values")
	}
}

// Every value of a half, not a sample: the tables of package plain against ggml.
func TestEveryHalfDecodesAlike(t *testing.T) {
	data := make([]byte, 0, 2<<16)
	for h := range 1 << 16 {
		data = binary.LittleEndian.AppendUint16(data, uint16(h))
	}
	got, want := make([]float32, 1<<16), make([]float32, 1<<16)
	if err := Decode(gguf.TypeF16, data, got); err != nil {
		t.Fatal(err)
	}
	if err := plain.Decode(gguf.TypeF16, data, want); err != nil {
		t.Fatal(err)
	}
	for h := range got {
		if got[h] != want[h] && !(math.IsNaN(float64(got[h])) && math.IsNaN(float64(want[h]))) {
			t.Fatalf("half %#04x: ggml %v, plain %v", h, got[h], want[h])
		}
	}
}

func TestPiecesMakeNoDifference(t *testing.T) {
	const n, row = 5 * pieceElements / 4, 256
	src := gaussian(3, n/row*row)
	whole, err := Encode(gguf.TypeQ4_K, src, row, nil)
	if err != nil {
		t.Fatal(err)
	}
	var rows []byte
	for i := 0; i < len(src); i += row {
		data, err := Encode(gguf.TypeQ4_K, src[i:i+row], row, nil)
		if err != nil {
			t.Fatal(err)
		}
		rows = append(rows, data...)
	}
	if !bytes.Equal(whole, rows) {
		t.Error("encoded at once and row by row to other bytes")
	}
	got, part := make([]float32, len(src)), make([]float32, row)
	if err := Decode(gguf.TypeQ4_K, whole, got); err != nil {
		t.Fatal(err)
	}
	last := len(src) - row
	if err := Decode(gguf.TypeQ4_K, whole[len(whole)-len(whole)/(len(src)/row):], part); err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(got[last:], part) {
		t.Error("decoded at once and row by row to other values")
	}
}

func TestImportanceMovesTheError(t *testing.T) {
	src := gaussian(4, 64*256)
	importance := make([]float32, 256)
	for i := range importance {
		importance[i] = 0.01
		if i%8 == 0 {
			importance[i] = 10
		}
	}
	errorOf := func(importance []float32) float64 {
		data, err := Encode(gguf.TypeQ3_K, src, 256, importance)
		if err != nil {
			t.Fatal(err)
		}
		back := make([]float32, len(src))
		if err := Decode(gguf.TypeQ3_K, data, back); err != nil {
			t.Fatal(err)
		}
		sum := 0.0
		for i := 0; i < len(src); i += 8 {
			sum += math.Pow(float64(src[i]-back[i]), 2)
		}
		return sum
	}
	if plain, weighted := errorOf(nil), errorOf(importance); !(weighted <= 0.8*plain) {
		t.Errorf("error of the important columns %v with and %v without importance", weighted, plain)
	}
}

func TestCompare(t *testing.T) {
	acc, err := Compare([]float32{3, 4, 0, 0}, []float32{3, 4, 1, -2})
	if want := (Accuracy{RMSE: math.Sqrt(5.0 / 4), Relative: math.Sqrt(5.0 / 25), Max: 2}); err != nil || acc != want {
		t.Errorf("Compare = %v, %v, want %v", acc, err, want)
	}
	if acc, err := Compare([]float32{0}, []float32{0}); err != nil || acc != (Accuracy{}) {
		t.Errorf("Compare of zeros = %v, %v", acc, err)
	}
}

func TestRefuses(t *testing.T) {
	second := func(_ []byte, err error) error { return err }
	nan, inf := float32(math.NaN()), float32(math.Inf(1))
	for _, c := range []struct {
		name string
		err  error
		want string
	}{
		{"decode an integer type", Decode(gguf.TypeI32, make([]byte, 4), make([]float32, 1)), "quant: type i32: cannot be decoded"},
		{"decode q8_K", Decode(gguf.TypeQ8_K, make([]byte, 292), make([]float32, 256)), "quant: type q8_K: cannot be decoded"},
		{"decode an unknown type", Decode(99, nil, nil), "quant: type type(99): cannot be decoded"},
		{"decode short data", Decode(gguf.TypeQ4_K, make([]byte, 143), make([]float32, 256)), "quant: 256 elements of q4_K are 144 bytes, got 143"},
		{"decode half a block", Decode(gguf.TypeQ4_K, make([]byte, 144), make([]float32, 128)), "gguf: a row of 128 elements is no multiple of the 256 in a block of q4_K"},
		{"encode q8_1", second(Encode(gguf.TypeQ8_1, make([]float32, 32), 32, nil)), "quant: type q8_1: cannot be encoded"},
		{"encode q8_1 with importance", second(Encode(gguf.TypeQ8_1, make([]float32, 32), 32, ones(32))), "quant: type q8_1: cannot be encoded"},
		{"encode without importance", second(Encode(gguf.TypeIQ1_M, make([]float32, 256), 256, nil)), "quant: type iq1_m: needs an importance matrix"},
		{"encode broken rows", second(Encode(gguf.TypeQ8_0, make([]float32, 33), 32, nil)), "quant: 33 elements are not whole rows of 32"},
		{"encode rows of nothing", second(Encode(gguf.TypeQ8_0, nil, 0, nil)), "quant: 0 elements are not whole rows of 0"},
		{"encode broken blocks", second(Encode(gguf.TypeQ8_0, make([]float32, 48), 48, nil)), "gguf: a row of 48 elements is no multiple of the 32 in a block of q8_0"},
		{"encode NaN", second(Encode(gguf.TypeIQ3_S, append(make([]float32, 255), nan), 256, nil)), "quant: element 255 is NaN"},
		{"encode infinity", second(Encode(gguf.TypeF16, []float32{inf}, 1, nil)), "quant: element 0 is +Inf"},
		{"negative importance", second(Encode(gguf.TypeF16, []float32{1}, 1, []float32{-1})), "quant: importance of column 0 is -1"},
		{"NaN importance", second(Encode(gguf.TypeF16, []float32{1}, 1, []float32{nan})), "quant: importance of column 0 is NaN"},
		{"importance of other columns", second(Encode(gguf.TypeF16, []float32{1}, 1, ones(2))), "quant: importance of 2 columns, want 1"},
	} {
		if c.err == nil || c.err.Error() != c.want {
			t.Errorf("%s: error %v, want %s", c.name, c.err, c.want)
		}
	}
}

// TestNothingEndsTheProcess gives the encoders what made ggml abort or read beyond its
// tables, which would end this test too.
func TestNothingEndsTheProcess(t *testing.T) {
	spike := func(v float32) []float32 { s := make([]float32, 512); s[3] = v; return s }
	times := func(f float32) []float32 {
		s := gaussian(5, 512)
		for i := range s {
			s[i] *= f
		}
		return s
	}
	hole, uneven := ones(256), gaussian(8, 256)
	for i, v := range uneven {
		uneven[i] = v * v
	}
	clear(hole[32:96])
	outlier := ones(256)
	outlier[9] = math.MaxFloat32
	values := map[string][]float32{"denormal": spike(1e-45), "spike": spike(9e8), "dust": times(1e-40), "small": times(1e-8),
		"large": times(1e9), "usual": gaussian(5, 512)}
	importances := map[string][]float32{"none": nil, "zeros": make([]float32, 256), "hole": hole, "uneven": uneven, "outlier": outlier,
		"tiny": slices.Repeat([]float32{1e-45}, 256), "huge": slices.Repeat([]float32{math.MaxFloat32}, 256)}
	for _, typ := range Types() {
		if testing.Short() && slowTables(typ) {
			continue
		}
		encode := func(src, importance string) {
			if importances[importance] == nil && NeedsImportance(typ) {
				return
			}
			if _, err := Encode(typ, values[src], 256, importances[importance]); err != nil {
				t.Errorf("%s: %s values with importance %q: %v", typ, src, importance, err)
			}
		}
		for src := range values {
			encode(src, "none")
			encode(src, "uneven")
		}
		for importance := range importances {
			encode("usual", importance)
		}
		if _, err := Encode(typ, spike(1e13), 256, ones(256)); (err != nil) != onGrid(typ) {
			t.Errorf("%s: 1e13 gives error %v, want one: %v", typ, err, onGrid(typ))
		}
	}
}

// TestOnlyProportionsOfImportanceCount: to the bit where the factor is a power of two.
func TestOnlyProportionsOfImportanceCount(t *testing.T) {
	src, importance := gaussian(6, 16*256), gaussian(7, 256)
	for i := range importance {
		importance[i] *= importance[i]
	}
	larger := slices.Clone(importance)
	for i := range larger {
		larger[i] *= 1 << 20
	}
	for _, typ := range []gguf.Type{gguf.TypeQ4_0, gguf.TypeQ2_K, gguf.TypeQ4_K, gguf.TypeIQ3_S, gguf.TypeIQ4_XS} {
		a, err := Encode(typ, src, 256, importance)
		if err != nil {
			t.Fatal(err)
		}
		b, err := Encode(typ, src, 256, larger)
		if err != nil || !bytes.Equal(a, b) {
			t.Errorf("%s: another scale of the importance gives other bytes, error %v", typ, err)
		}
		zeros, err := Encode(typ, src, 256, make([]float32, 256))
		if err != nil {
			t.Fatal(err)
		}
		if none, err := Encode(typ, src, 256, nil); err != nil || !bytes.Equal(zeros, none) {
			t.Errorf("%s: an importance of zeros is not none, error %v", typ, err)
		}
	}
}
