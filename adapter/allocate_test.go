package adapter

import (
	"slices"
	"testing"
)

func TestAllocate(t *testing.T) {
	of := func(cost int, energy ...float64) spectrum { return spectrum{energy, cost} }
	three := []spectrum{of(2, 9, 1, 1), of(2, 9, 1, 1), of(2, 9, 1, 1)}
	for _, c := range []struct {
		name    string
		spectra []spectrum
		budget  int
		want    []int
	}{
		{"one each", three, 6, []int{1, 1, 1}},
		{"a tie goes to the earlier weight", three, 8, []int{2, 1, 1}},
		{"as long as it has one", three, 10, []int{3, 1, 1}},
		{"and then to the next", three, 15, []int{3, 3, 1}},
		{"more than there is", three, 100, []int{3, 3, 3}},
		{"the most energy", []spectrum{of(2, 9, 3), of(2, 9, 4)}, 6, []int{1, 2}},
		{"the most energy a parameter", []spectrum{of(3, 9, 6), of(2, 9, 5)}, 8, []int{1, 2}},
		{"what does not fit gives way to what does", []spectrum{of(5, 9, 100, 90), of(2, 9, 1, 1)}, 11, []int{1, 3}},
		{"nothing is spent on no energy", []spectrum{of(2, 9, 0), of(2, 0)}, 100, []int{1, 1}},
	} {
		if got, err := allocate(c.spectra, c.budget); err != nil || !slices.Equal(got, c.want) {
			t.Errorf("%s: allocate = %v, %v, want %v", c.name, got, err, c.want)
		}
	}
	if got, err := allocate(three, 5); err == nil || err.Error() != "adapter: a budget 1 parameters short of rank 1 for each of the 3 weights" {
		t.Errorf("allocate of too little = %v, %v, want an error", got, err)
	}
}
