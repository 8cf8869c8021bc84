package convert

import (
	"math"
	"testing"

	"finetune/gguf"
)

func TestTidy(t *testing.T) {
	for in, want := range map[float64]float64{
		16: 16, 0.3: 0.3, -4: -4, 2.5: 2.5, 0: 0,
		math.Nextafter(3, 4): 3, math.Nextafter(-1e10, 0): -1e10, 1e6 + 1e-3: 1e6 + 1e-3,
	} {
		if got := tidy(in); got != want {
			t.Errorf("tidy(%v) = %v, want %v", in, got, want)
		}
	}
}

func TestUsable(t *testing.T) {
	for scale, want := range map[float64]bool{
		1: true, -1: true, 0x1p-126: true, -0x1p-126: true, math.Nextafter(0x1p-126, 0): false, 0: false,
		math.MaxFloat32: true, -math.MaxFloat32: true, math.MaxFloat32 * (1 + 1e-9): false, math.NaN(): false, math.Inf(-1): false,
	} {
		if got := usable(scale); got != want {
			t.Errorf("usable(%v) = %v, want %v", scale, got, want)
		}
	}
}

// LoraConfig: the scale is lora_alpha/r, and lora_alpha/√r with use_rslora.
func TestScaleOf(t *testing.T) {
	for _, c := range []struct {
		stabilized bool
		want       float64
	}{{false, 3}, {true, 12}} {
		p := &peftConfig{rank: 16, alpha: 48, stabilized: c.stabilized}
		if rank, scale, err := p.scaleOf("model.layers.0.self_attn.q_proj"); rank != 16 || scale != c.want || err != nil {
			t.Errorf("use_rslora %v: rank %d, scale %v, %v, want 16, %v", c.stabilized, rank, scale, err, c.want)
		}
	}
}

// A fold that cannot be undone, or of a module that is not there, leaves the others to be.
func TestUnfold(t *testing.T) {
	b := of(gguf.TypeF32, 1, 2, 3, 4)
	pairs := map[string]pair{"a": {a: b, b: b, scale: 2}, "b": {a: b, b: b, scale: 2}, "c": {a: b, b: b, scale: 2}}
	unfold(pairs, []fold{{"none", 2}, {"a", 3}, {"b", 4}, {"c", 0x1p127}})
	for name, want := range map[string]struct {
		scale float64
		b     []float32
	}{"a": {2, []float32{3, 4}}, "b": {8, []float32{0.75, 1}}, "c": {2, []float32{3, 4}}} {
		p := pairs[name]
		if got := numbers(t, p.b); p.scale != want.scale || got[0] != want.b[0] || got[1] != want.b[1] {
			t.Errorf("%s: scale %v and B %v, want %v and %v", name, p.scale, got, want.scale, want.b)
		}
	}
}
