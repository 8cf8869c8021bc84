package main

import (
	"math"
	"strings"
	"testing"
)

func TestBar(t *testing.T) {
	for _, tt := range []struct {
		done, of int64
		want     string
	}{
		{0, 10, "──────────"},
		{5, 10, "━━━━━─────"},
		{10, 10, "━━━━━━━━━━"},
		{12, 10, "━━━━━━━━━━"},
		{-1, 10, "──────────"},
		{0, 0, "──────────"},
		{1 << 40, 1 << 41, "━━━━━─────"},
	} {
		if got := bar(tt.done, tt.of, 10); got != tt.want {
			t.Errorf("bar(%d, %d) = %q, want %q", tt.done, tt.of, got, tt.want)
		}
	}
}

func TestBarRow(t *testing.T) {
	for _, tt := range []struct {
		text     string
		done, of int64
		columns  int
		want     string
	}{
		{"window 5 of 10", 5, 10, 36, "window 5 of 10  ━━━━━━━━━━──────────"},
		{"window 5 of 10", 5, 10, 24, "window 5 of 10  ━━━━────"},
		{"window 5 of 10", 5, 10, 23, "window 5 of 10"}, // no room for a bar
		{"window 5 of 10", 5, 10, 9, "window 5…"},
		{"reading", 5, 0, 80, "reading"}, // of what is not known
		{"half", 1, 2, 100, "half  " + strings.Repeat("━", mostBar/2) + strings.Repeat("─", mostBar/2)},
	} {
		if got := barRow(tt.text, tt.done, tt.of, tt.columns); got != tt.want {
			t.Errorf("barRow(%q, %d, %d, %d) = %q, want %q", tt.text, tt.done, tt.of, tt.columns, got, tt.want)
		}
	}
}

func TestSpark(t *testing.T) {
	for _, tt := range []struct {
		name    string
		values  []float64
		columns int
		want    string
	}{
		{"nothing", nil, 8, ""},
		{"one number", []float64{3}, 8, "▁"},
		{"always the same", []float64{3, 3, 3}, 8, "▁▁▁"},
		{"falling", []float64{8, 7, 6, 5, 4, 3, 2, 1}, 8, "█▇▆▅▄▃▂▁"},
		{"in half the columns", []float64{8, 8, 5, 5, 3, 3, 1, 1}, 4, "█▅▃▁"},
		{"what is no number", []float64{1, math.NaN(), 2, math.Inf(1)}, 8, "▁█"},
		{"no columns", []float64{1, 2}, 0, ""},
		{"fewer than none", []float64{1, 2}, -1, ""},
	} {
		var c curve
		for _, v := range tt.values {
			c.add(v)
		}
		if got := c.spark(tt.columns); got != tt.want {
			t.Errorf("%s: spark = %q, want %q", tt.name, got, tt.want)
		}
	}
}

// A curve of a hundred thousand numbers keeps its form in few points.
func TestCurveIsBounded(t *testing.T) {
	const n = 100_000
	var c curve
	for i := range n {
		c.add(float64(i))
	}
	if got, want := c.spark(8), "▁▂▃▄▅▆▇█"; got != want || len(c.points) >= mostPoints {
		t.Errorf("spark = %q of %d points, want %q of less than %d", got, len(c.points), want, mostPoints)
	}
	sum := c.sum // of whole numbers, and means of a power of two of them: nothing is rounded
	for _, p := range c.points {
		sum += p * float64(c.per)
	}
	if want := float64(n) * (n - 1) / 2; sum != want {
		t.Errorf("the points stand for a sum of %g, want %g", sum, want)
	}
}
