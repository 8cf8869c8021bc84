package near

import (
	"math"
	"testing"
)

var (
	nan = math.NaN()
	inf = math.Inf(1)
)

func TestEnough(t *testing.T) {
	for _, tt := range []struct {
		got, want, tol float64
		near           bool
	}{
		{1, 1, 0, true},
		{1, 1.25, 0.25, true},
		{1.25, 1, 0.25, true},
		{-1, -1.25, 0.125, false},
		{-1, 1, 0.5, false},
		{1, 1, -1, false},
		{nan, 1, 1, false},
		{1, nan, 1, false},
		{nan, nan, 1, false},
		{1, 1, nan, false},
		{inf, 1, 1, false},
		{1, inf, inf, false}, // the tolerance was a share of want
		{inf, inf, 1, false},
		{-inf, inf, 1, false},
		{1, 1, inf, false},
	} {
		if got := Enough(tt.got, tt.want, tt.tol); got != tt.near {
			t.Errorf("Enough(%v, %v, %v) = %v, want %v", tt.got, tt.want, tt.tol, got, tt.near)
		}
	}
	if !Enough(float32(0.1), 0.1, 1e-8) || Enough(float32(0.1), 0.1, 1e-9) {
		t.Error("a float32 is not compared in float64")
	}
}

func TestWithinAndApart(t *testing.T) {
	for _, tt := range []struct {
		a, b, share   float64
		within, apart bool
	}{
		{1, 1, 0, true, false},
		{4, 3, 0.25, true, false},
		{3, 4, 0.25, true, false},
		{-4, -2.75, 0.25, false, true},
		{0, 0, 0.25, true, false},
		{1, -1, 1, false, true},
		{nan, 1, 1, false, false},
		{1, nan, 1, false, false},
		{nan, nan, 1, false, false},
		{1, inf, 0.5, false, false},
		{-inf, 1, 0.5, false, false},
		{inf, inf, 0.5, false, false},
		{1, 2, nan, false, false},
	} {
		if got := Within(tt.a, tt.b, tt.share); got != tt.within {
			t.Errorf("Within(%v, %v, %v) = %v, want %v", tt.a, tt.b, tt.share, got, tt.within)
		}
		if got := Apart(tt.a, tt.b, tt.share); got != tt.apart {
			t.Errorf("Apart(%v, %v, %v) = %v, want %v", tt.a, tt.b, tt.share, got, tt.apart)
		}
	}
}

func TestOfLists(t *testing.T) {
	for _, tt := range []struct {
		name                     string
		got, want                []float64
		farthest, largest, share float64
	}{
		{"alike", []float64{1, -2}, []float64{1, -2}, 0, 2, 0},
		{"apart below and above", []float64{1, -3, 4}, []float64{0.5, -2, 4}, 1, 4, 0.25},
		{"NaN first", []float64{nan, 1}, []float64{1, 1}, inf, 1, inf},
		{"NaN between", []float64{1, nan, 1}, []float64{1, 1, 1}, inf, 1, inf},
		{"NaN wanted", []float64{1, 1}, []float64{nan, 1}, inf, inf, inf},
		{"NaN in both", []float64{nan, 1}, []float64{nan, 1}, inf, inf, inf},
		{"infinite", []float64{inf, 1}, []float64{1, 1}, inf, 1, inf},
		{"infinite in both", []float64{inf, 1}, []float64{inf, 1}, inf, inf, inf},
		{"infinite wanted", []float64{1, 1}, []float64{1, -inf}, inf, inf, inf},
		{"shorter", []float64{1}, []float64{1, 2}, inf, 2, inf},
		{"longer", []float64{1, 2}, []float64{1}, inf, 1, inf},
		{"nothing", nil, nil, inf, 0, inf},
		{"zeros wanted", []float64{0, 0}, []float64{0, 0}, 0, 0, inf},
	} {
		if got := Farthest(tt.got, tt.want); got != tt.farthest {
			t.Errorf("%s: Farthest = %v, want %v", tt.name, got, tt.farthest)
		}
		if got := Largest(tt.want); got != tt.largest {
			t.Errorf("%s: Largest = %v, want %v", tt.name, got, tt.largest)
		}
		if got := Share(tt.got, tt.want); got != tt.share {
			t.Errorf("%s: Share = %v, want %v", tt.name, got, tt.share)
		}
	}
}
