package gguf

import (
	"strings"
	"testing"
)

// TestTypeSizes recounts the bytes of each quantized block from its parts, as the
// structs of ggml lay them out: half-precision scales, packed scales, packed numbers.
func TestTypeSizes(t *testing.T) {
	const half = 2
	tests := []struct {
		typ   Type
		name  string
		block int
		bytes int
	}{
		{TypeF32, "f32", 1, 4}, {TypeF16, "f16", 1, 2}, {TypeBF16, "bf16", 1, 2}, {TypeF64, "f64", 1, 8},
		{TypeI8, "i8", 1, 1}, {TypeI16, "i16", 1, 2}, {TypeI32, "i32", 1, 4}, {TypeI64, "i64", 1, 8},
		{TypeQ4_0, "q4_0", 32, half + 32/2},
		{TypeQ4_1, "q4_1", 32, 2*half + 32/2},
		{TypeQ5_0, "q5_0", 32, half + 4 + 32/2},
		{TypeQ5_1, "q5_1", 32, 2*half + 4 + 32/2},
		{TypeQ8_0, "q8_0", 32, half + 32},
		{TypeQ8_1, "q8_1", 32, 2*half + 32},
		{TypeMXFP4, "mxfp4", 32, 1 + 32/2},
		{TypeNVFP4, "nvfp4", 64, 64/16 + 64/2},
		{TypeQ1_0, "q1_0", 128, half + 128/8},
		{TypeQ2_0, "q2_0", 64, half + 64/4},
		{TypeIQ4_NL, "iq4_nl", 32, half + 32/2},
		{TypeQ2_K, "q2_K", 256, 2*half + 256/16 + 256/4},
		{TypeQ3_K, "q3_K", 256, half + 256/4 + 256/8 + 12},
		{TypeQ4_K, "q4_K", 256, 2*half + 12 + 256/2},
		{TypeQ5_K, "q5_K", 256, 2*half + 12 + 256/2 + 256/8},
		{TypeQ6_K, "q6_K", 256, half + 256/16 + 3*256/4},
		{TypeQ8_K, "q8_K", 256, 4 + 256 + 256/16*2},
		{TypeTQ1_0, "tq1_0", 256, half + 256/64 + (256-4*256/64)/5},
		{TypeTQ2_0, "tq2_0", 256, half + 256/4},
		{TypeIQ2_XXS, "iq2_xxs", 256, half + 256/8*2},
		{TypeIQ2_XS, "iq2_xs", 256, half + 256/8*2 + 256/32},
		{TypeIQ2_S, "iq2_s", 256, half + 256/4 + 256/16},
		{TypeIQ3_XXS, "iq3_xxs", 256, half + 3*(256/8)},
		{TypeIQ3_S, "iq3_s", 256, half + 13*(256/32) + 256/64},
		{TypeIQ1_S, "iq1_s", 256, half + 256/8 + 256/16},
		{TypeIQ1_M, "iq1_m", 256, 256/8 + 256/16 + 256/32},
		{TypeIQ4_XS, "iq4_xs", 256, half + 2 + 256/64 + 256/2},
	}
	if got := len(Types()); got != len(tests) {
		t.Errorf("Types() has %d types, want %d", got, len(tests))
	}
	for _, tt := range tests {
		if tt.typ.String() != tt.name || tt.typ.BlockSize() != tt.block || tt.typ.BlockBytes() != tt.bytes {
			t.Errorf("type %d is %s, %d elements in %d bytes; want %s, %d in %d", uint32(tt.typ),
				tt.typ, tt.typ.BlockSize(), tt.typ.BlockBytes(), tt.name, tt.block, tt.bytes)
		}
		for _, name := range []string{tt.name, strings.ToUpper(tt.name)} {
			if got, err := ParseType(name); err != nil || got != tt.typ {
				t.Errorf("ParseType(%q) = %v, %v, want %v", name, got, err, tt.typ)
			}
		}
	}
}

func TestUnknownTypesHaveNoSize(t *testing.T) {
	for _, typ := range []Type{4, 5, 31, 36, 43, 1 << 31} {
		if typ.BlockSize() != 0 || typ.BlockBytes() != 0 {
			t.Errorf("%v has blocks of %d elements in %d bytes, want none", typ, typ.BlockSize(), typ.BlockBytes())
		}
		if n, err := typ.RowBytes(0); err == nil {
			t.Errorf("%v.RowBytes(0) = %d, want an error", typ, n)
		}
	}
	for _, name := range []string{"", "q4", "type(4)", "f32 "} {
		if typ, err := ParseType(name); err == nil {
			t.Errorf("ParseType(%q) = %v, want an error", name, typ)
		}
	}
}

func TestRowBytes(t *testing.T) {
	tests := []struct {
		typ  Type
		n    int64
		want int64 // -1 for an error
	}{
		{TypeF32, 0, 0}, {TypeF32, 7, 28}, {TypeQ8_0, 64, 68}, {TypeQ8_0, 63, -1},
		{TypeQ4_K, 512, 288}, {TypeQ4_K, 32, -1}, {TypeF16, -2, -1}, {TypeF64, 1 << 62, -1},
	}
	for _, tt := range tests {
		got, err := tt.typ.RowBytes(tt.n)
		if (err != nil) != (tt.want < 0) || err == nil && got != tt.want {
			t.Errorf("%v.RowBytes(%d) = %d, %v, want %d", tt.typ, tt.n, got, err, tt.want)
		}
	}
}
