package convert

import (
	"math"
	"slices"
	"testing"

	"finetune/gguf"
	"finetune/internal/near"
	"finetune/quant/plain"
)

// of is a matrix of numbers in memory.
func of(typ gguf.Type, rows, cols int, v ...float32) matrix {
	return matrix{typ, rows, cols, func() ([]byte, error) { return plain.Append(nil, typ, v) }}
}

func random(name string, rows, cols int) matrix {
	return of(gguf.TypeF32, rows, cols, noise(name, rows*cols)...)
}

func numbers(t *testing.T, m matrix) []float32 {
	t.Helper()
	v, err := m.floats()
	if err != nil {
		t.Fatal(err)
	}
	if len(v) != m.rows*m.cols {
		t.Fatalf("%d numbers in a matrix [%d %d]", len(v), m.rows, m.cols)
	}
	return v
}

func TestMatrix(t *testing.T) {
	for _, typ := range []gguf.Type{gguf.TypeF32, gguf.TypeF16, gguf.TypeBF16} {
		m := of(typ, 2, 3, 1, 2, 3, 4, 5, 6)
		for name, tt := range map[string]struct {
			got  matrix
			want []float32
		}{
			"transposed":  {m.transposed(), []float32{1, 4, 2, 5, 3, 6}},
			"pickRows":    {m.pickRows([]int{1, -1, 0, 1}), []float32{4, 5, 6, 0, 0, 0, 1, 2, 3, 4, 5, 6}},
			"pickColumns": {m.pickColumns([]int{-1, 2, 0}), []float32{0, 3, 1, 0, 6, 4}},
			"stacked":     {stacked([]matrix{m, m.pickRows([]int{0})}), []float32{1, 2, 3, 4, 5, 6, 1, 2, 3}},
			"scaled":      {m.scaled(-0.5), []float32{-0.5, -1, -1.5, -2, -2.5, -3}},
			"asF32":       {m.asF32(), []float32{1, 2, 3, 4, 5, 6}},
			"zeros":       {zeros(typ, 1, 2), []float32{0, 0}},
		} {
			if v := numbers(t, tt.got); !slices.Equal(v, tt.want) {
				t.Errorf("%s: %s = %v, want %v", typ, name, v, tt.want)
			}
		}
	}
	if _, err := of(gguf.TypeF32, 1, 1, math.MaxFloat32).scaled(2).read(); err == nil {
		t.Error("a product too large for float32: no error")
	}
}

// delta is scale·B·A.
func delta(t *testing.T, p pair) []float64 {
	t.Helper()
	a, b := numbers(t, p.a), numbers(t, p.b)
	d := make([]float64, p.b.rows*p.a.cols)
	for i := range d {
		for k := range p.rank() {
			d[i] += p.scale * float64(b[i/p.a.cols*p.rank()+k]) * float64(a[k*p.a.cols+i%p.a.cols])
		}
	}
	return d
}

func closeTo(a, b []float64) bool {
	const rounding = 1e-6 // of one factor in float32, of order one
	return near.Farthest(a, b) <= rounding
}

// Three weights that become one, in every combination, and come back.
func TestCarryJoins(t *testing.T) {
	const in, out = 5, 4
	maps := []rowMap{
		{"q", "qkv", nil, []int{0, 1, 2, 3}, nil}, {"k", "qkv", nil, []int{4, 5, 6, 7}, nil}, {"v", "qkv", nil, []int{8, 9, 10, 11}, nil}}
	var back []rowMap
	for _, x := range maps {
		back = append(back, rowMap{x.to, x.from, x.put, x.take, inverse(x.columns)})
	}
	rows := map[string]int{"qkv": 3 * out, "q": out, "k": out, "v": out}
	shared := random("A", 2, in)
	for name, from := range map[string]map[string]pair{
		"A of their own":      {"q": {a: random("qA", 2, in), b: random("qB", out, 2), scale: 2}, "k": {a: random("kA", 3, in), b: random("kB", out, 3), scale: 2}, "v": {a: random("vA", 2, in), b: random("vB", out, 2), scale: 2}},
		"one A":               {"q": {a: shared, b: random("qB", out, 2), scale: 2}, "k": {a: shared, b: random("kB", out, 2), scale: 2}, "v": {a: shared, b: random("vB", out, 2), scale: 2}},
		"one is missing":      {"q": {a: random("qA", 2, in), b: random("qB", out, 2), scale: 2}, "v": {a: random("vA", 2, in), b: random("vB", out, 2), scale: 2}},
		"only one":            {"k": {a: random("kA", 3, in), b: random("kB", out, 3), scale: 2}},
		"scales of their own": {"q": {a: random("qA", 2, in), b: random("qB", out, 2), scale: 2}, "k": {a: random("kA", 2, in), b: random("kB", out, 2), scale: 3}},
		"types of their own":  {"q": {a: random("qA", 1, in), b: random("qB", out, 1), scale: 2}, "k": {a: of(gguf.TypeF16, 1, in, 1, 2, 3, 4, 5), b: of(gguf.TypeF16, out, 1, 1, 2, 3, 4), scale: 2}},
	} {
		t.Run(name, func(t *testing.T) {
			there, err := mapPairs(from, maps, rows)
			if err != nil || len(there.pairs) != 1 {
				t.Fatalf("mapPairs = %v, %v, want one pair", there, err)
			}
			if several := len(from) > 1; slices.Equal(there.joined, []string{"qkv"}) != several || len(there.joined) > 1 || len(there.divided) > 0 {
				t.Errorf("joined %q, divided %q of %d", there.joined, there.divided, len(from))
			}
			joined := there.pairs["qkv"]
			rank := 0
			for _, p := range from {
				rank += p.rank()
			}
			if name == "one A" {
				rank = 2
			}
			if joined.rank() != rank {
				t.Errorf("rank %d, want %d", joined.rank(), rank)
			}
			all := delta(t, joined)
			for i, x := range maps {
				want := make([]float64, in*out)
				if p, ok := from[x.from]; ok {
					want = delta(t, p)
				}
				if got := all[i*in*out : (i+1)*in*out]; !closeTo(got, want) {
					t.Errorf("%s: ΔW = %v, want %v", x.from, got, want)
				}
			}
			again, err := mapPairs(there.pairs, back, rows)
			if err != nil {
				t.Fatal(err)
			}
			if len(again.pairs) != len(from) || !slices.Equal(again.divided, []string{"qkv"}) || len(again.joined) > 0 {
				t.Errorf("came back: %d pairs, joined %q, divided %q, want %d, divided", len(again.pairs), again.joined, again.divided, len(from))
			}
			for key, p := range from {
				got := again.pairs[key]
				if got.rank() != p.rank() || !closeTo(delta(t, got), delta(t, p)) {
					t.Errorf("%s came back with rank %d, want %d and the same ΔW", key, got.rank(), p.rank())
				}
				same, err := got.a.equal(p.a)
				if (err != nil || !same) && name != "types of their own" {
					t.Errorf("%s: A came back changed, %v", key, err)
				}
			}
		})
	}
}

// One weight that becomes three, whose rows are interleaved, and comes back.
func TestCarryDivides(t *testing.T) {
	const in = 5
	maps := []rowMap{{"wqkv", "q", []int{1, 0, 5, 4}, nil, nil}, {"wqkv", "k", []int{2, 6}, nil, nil}, {"wqkv", "v", []int{3, 7}, nil, nil}}
	var back []rowMap
	for _, x := range maps {
		back = append(back, rowMap{x.to, x.from, x.put, x.take, inverse(x.columns)})
	}
	rows := map[string]int{"wqkv": 8, "q": 4, "k": 2, "v": 2}
	whole := pair{a: random("A", 3, in), b: random("B", 8, 3), scale: 4}
	there, err := mapPairs(map[string]pair{"wqkv": whole}, maps, rows)
	if err != nil || len(there.pairs) != 3 || there.reordered != 1 || !slices.Equal(there.divided, []string{"wqkv"}) {
		t.Fatalf("mapPairs = %+v, %v, want three pairs, q of them reordered", there, err)
	}
	want := delta(t, whole)
	for _, x := range maps {
		got := delta(t, there.pairs[x.to])
		for i, row := range x.take {
			if !slices.Equal(got[i*in:(i+1)*in], want[row*in:(row+1)*in]) {
				t.Errorf("%s: row %d is %v, want %v", x.to, i, got[i*in:(i+1)*in], want[row*in:(row+1)*in])
			}
		}
	}
	again, err := mapPairs(there.pairs, back, rows)
	if err != nil {
		t.Fatal(err)
	}
	sameA, errA := again.pairs["wqkv"].a.equal(whole.a)
	sameB, errB := again.pairs["wqkv"].b.equal(whole.b)
	if !sameA || !sameB || errA != nil || errB != nil {
		t.Errorf("came back changed: A the same: %v, B: %v", sameA, sameB)
	}

	// Trained in llama.cpp's layout, each of the three has an A of its own.
	own := map[string]pair{"q": {a: random("qA", 2, in), b: random("qB", 4, 2), scale: 1}, "v": {a: random("vA", 2, in), b: random("vB", 2, 2), scale: 1}}
	joined, err := mapPairs(own, back, rows)
	if err != nil || joined.pairs["wqkv"].rank() != 4 {
		t.Fatalf("mapPairs = %+v, %v, want rank 4", joined, err)
	}
	apart, err := mapPairs(joined.pairs, maps, rows)
	if err != nil || len(apart.pairs) != 2 {
		t.Fatalf("mapPairs = %+v, %v, want q and v", apart, err)
	}
	for key, p := range own {
		sameA, errA := apart.pairs[key].a.equal(p.a)
		sameB, errB := apart.pairs[key].b.equal(p.b)
		if !sameA || !sameB || errA != nil || errB != nil {
			t.Errorf("%s came back changed", key)
		}
	}
}

// Which component of the rank is for which weight shows in B: a column that has numbers for one of them alone is its own,
// and one without any number goes with the one before.
func TestCarryTakesTheRankApart(t *testing.T) {
	maps := []rowMap{{"w", "q", []int{0, 1}, nil, nil}, {"w", "k", []int{2, 3}, nil, nil}}
	for name, c := range map[string]struct {
		b    []float32 // rows of three: two for q, two for k
		q, k []int     // components
	}{
		"all for both":         {[]float32{1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12}, []int{0, 1, 2}, []int{0, 1, 2}},
		"one for both":         {[]float32{1, 2, 0, 4, 5, 0, 7, 0, 9, 10, 0, 12}, []int{0, 1, 2}, []int{0, 1, 2}},
		"one each, and one":    {[]float32{0, 2, 0, 0, 5, 0, 7, 0, 0, 10, 0, 0}, []int{1, 2}, []int{0}},
		"the first has none":   {[]float32{0, 2, 0, 0, 5, 0, 0, 0, 9, 0, 0, 12}, []int{0, 1}, []int{2}},
		"nothing for k":        {[]float32{1, 0, 0, 4, 5, 0, 0, 0, 0, 0, 0, 0}, []int{0, 1, 2}, nil},
		"in a row without one": {[]float32{0, 0, 0, 4, 0, 0, 0, 0, 0, 0, 8, 9}, []int{0}, []int{1, 2}},
	} {
		whole := pair{a: random("A", 3, 5), b: of(gguf.TypeF32, 4, 3, c.b...), scale: 2}
		got, err := mapPairs(map[string]pair{"w": whole}, maps, map[string]int{"q": 2, "k": 2})
		if err != nil {
			t.Fatal(err)
		}
		for to, components := range map[string][]int{"q": c.q, "k": c.k} {
			p, ok := got.pairs[to]
			if ok != (components != nil) {
				t.Errorf("%s: %s is there: %v", name, to, ok)
			}
			if !ok {
				continue
			}
			a, err := p.a.equal(whole.a.pickRows(components))
			if err != nil || !a {
				t.Errorf("%s: %s has rank %d, want components %v", name, to, p.rank(), components)
			}
		}
	}
}

// An adapter that was never trained has a B of zeros, in which no blocks can be seen.
func TestCarryOfZeros(t *testing.T) {
	x := []rowMap{{"w", "q", []int{0}, nil, nil}, {"w", "k", []int{1}, nil, nil}}
	c, err := mapPairs(map[string]pair{"w": {a: random("A", 2, 3), b: zeros(gguf.TypeF32, 2, 2), scale: 1}}, x, map[string]int{"q": 1, "k": 1})
	if err != nil || len(c.pairs) != 2 || c.pairs["q"].rank() != 2 {
		t.Errorf("mapPairs = %+v, %v, want both with rank 2", c, err)
	}
}

// Experts of one layer have to agree on type, rank and scale.
func TestStackOf(t *testing.T) {
	experts := []*pair{
		nil,
		{a: random("A1", 2, 3), b: random("B1", 4, 2), scale: 2},
		{a: of(gguf.TypeF16, 1, 3, 1, 2, 3), b: of(gguf.TypeF16, 4, 1, 1, 2, 3, 4), scale: 3},
	}
	all := stackOf(experts)
	for i, p := range all {
		if p.rank() != 2 || p.scale != 2 || p.a.typ != gguf.TypeF32 || p.b.typ != gguf.TypeF32 {
			t.Errorf("expert %d: rank %d, scale %v, %s and %s", i, p.rank(), p.scale, p.a.typ, p.b.typ)
		}
		want := make([]float64, 12)
		if experts[i] != nil {
			want = delta(t, *experts[i])
		}
		if got := delta(t, p); !closeTo(got, want) {
			t.Errorf("expert %d: ΔW = %v, want %v", i, got, want)
		}
	}
}

func TestChoose(t *testing.T) {
	ratio := func(wants []float64) func(float64, int) float64 {
		return func(c float64, i int) float64 { return wants[i] / c }
	}
	for name, tt := range map[string]struct{ wants, factors []float64 }{
		"all the same":      {[]float64{4, 4, 4}, []float64{1, 1, 1}},
		"most the same":     {[]float64{4, 8, 4}, []float64{1, 2, 1}},
		"fewest roundings":  {[]float64{3, 4, 8, 3}, []float64{1, 4.0 / 3, 8.0 / 3, 1}},
		"a float32's error": {[]float64{4, 4 * (1 + 1e-8)}, []float64{1, 1}},
	} {
		if _, got := choose(tt.wants, len(tt.wants), ratio(tt.wants)); !slices.Equal(got, tt.factors) {
			t.Errorf("%s: factors %v, want %v", name, got, tt.factors)
		}
	}
}
