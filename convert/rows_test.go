package convert

import (
	"fmt"
	"slices"
	"testing"
)

// axes numbers the elements of an array of the given shape and returns them in the
// order of the transposed array, as numpy's arange, reshape, transpose and ravel do.
func axes(shape, perm []int) []int {
	strides := make([]int, len(shape))
	n := 1
	for i := len(shape) - 1; i >= 0; i-- {
		strides[i], n = n, n*shape[i]
	}
	index := make([]int, len(shape))
	var out []int
	for range n {
		at := 0
		for i, p := range perm {
			at += index[i] * strides[p]
		}
		out = append(out, at)
		for i := len(perm) - 1; i >= 0; i-- {
			if index[i]++; index[i] < shape[perm[i]] {
				break
			}
			index[i] = 0
		}
	}
	return out
}

// The orders are the reshapes of llama.cpp's convert_hf_to_gguf.py.
func TestOrders(t *testing.T) {
	const d = 6
	h := heads{q: 8, kv: 2}
	flat := func(n int) []int { return axes([]int{n}, []int{0}) }
	rows := func(of []int, at ...int) []int { // heads of a list of rows
		var out []int
		for _, head := range at {
			out = append(out, of[head*d:(head+1)*d]...)
		}
		return out
	}
	// reshape(n_head, 2, rows/n_head/2).swapaxes(1, 2), over rows that lie elsewhere
	permuted := func(of []int, n int) []int {
		var out []int
		for _, i := range axes([]int{n, 2, len(of) / n / 2}, []int{0, 2, 1}) {
			out = append(out, of[i])
		}
		return out
	}
	// reshape(groups, q_per_kv + 2, head_dim): q is [:, :-2], k [:, -2], v [:, -1]
	grouped := flat((8 + 2*2) * d)
	q, k, v := rows(grouped, 0, 1, 2, 3, 6, 7, 8, 9), rows(grouped, 4, 10), rows(grouped, 5, 11)
	for _, tt := range []struct {
		order order
		rows  int
		want  []int
	}{
		{"q-pairs", 8 * d, permuted(flat(8*d), 8)},
		{"k-pairs", 2 * d, permuted(flat(2*d), 2)},
		{"by-head", 3 * 8 * d, axes([]int{8, 3, d}, []int{1, 0, 2})},
		{"by-group", 12 * d, slices.Concat(q, k, v)},
		{"q-of-groups", 8 * d, permuted(q, 8)},
		{"k-of-groups", 2 * d, permuted(k, 2)},
		{"v-of-groups", 2 * d, v},
	} {
		got, err := tt.order.rows(tt.rows, h)
		if err != nil || !slices.Equal(got.from, tt.want) || got.place != nil {
			t.Errorf("%s: rows = %v, %v, want %v", tt.order, got, err, tt.want)
		}
	}
	if got, err := order("q-pairs").rows(d, heads{q: 1, kv: 1}); err != nil || !slices.Equal(got.from, permuted(flat(d), 1)) {
		t.Errorf("one head: rows = %v, %v, want %v", got, err, permuted(flat(d), 1))
	}
	at := 0
	for i, n := range []int{8 * d, 2 * d, 2 * d} { // torch.cat of q, k and v
		o := order("qkv"[i:i+1] + "-of-qkv")
		got, err := o.rows(12*d, h)
		if err != nil || !slices.Equal(got.from, flat(n)) || got.place[0] != at || len(got.place) != n {
			t.Errorf("%s: rows = %v, %v, want %d from %d on", o, got, err, n, at)
		}
		at += n
	}
}

// The heads of v in a gated delta rule: reshape(k heads, v heads of each, head_dim).permute(1, 0, 2) in the converter.
func TestOrdersOfStates(t *testing.T) {
	const k, shared, d = 2, 3, 4
	h := heads{stateK: k, stateV: k * shared}
	want := axes([]int{k, shared, d}, []int{1, 0, 2})
	if got, err := order("state-v").of(7, len(want), h); err != nil || !slices.Equal(got.from, want) || got.columns != nil {
		t.Errorf("rows = %v, %v, want %v", got, err, want)
	}
	if got, err := order("v-to-state").of(len(want), 7, h); err != nil || !slices.Equal(got.columns, want) || got.from != nil {
		t.Errorf("columns = %v, %v, want %v", got, err, want)
	}
	all := axes([]int{2 * k * d}, []int{0})
	for _, row := range want {
		all = append(all, 2*k*d+row)
	}
	if got, err := order("state-qkv").of(7, len(all), h); err != nil || !slices.Equal(got.from, all) {
		t.Errorf("rows = %v, %v, want %v", got, err, all)
	}
	if there, back := want, inverse(want); slices.Equal(there, back) {
		t.Error("the order undoes itself: the test cannot tell it from its inverse")
	}
	for _, h := range []heads{{}, {stateK: 2, stateV: 5}, {stateK: 1 << 40, stateV: 1 << 40}, {stateK: -1, stateV: -1}, {stateK: 5, stateV: 5}} {
		for _, o := range []order{"state-v", "state-qkv", "v-to-state"} {
			if got, err := o.of(24, 24, h); err == nil {
				t.Errorf("%s of %+v = %v, want an error", o, h, got)
			}
		}
	}
}

func TestOrdersRefuse(t *testing.T) {
	for _, tt := range []struct {
		order order
		rows  int
		heads heads
	}{
		{"q-pairs", 12, heads{q: 0, kv: 0}}, {"q-pairs", 12, heads{q: 5, kv: 1}}, {"q-pairs", 12, heads{q: 4, kv: 3}}, {"q-pairs", 12, heads{q: -4, kv: -4}},
		{"q-pairs", 12, heads{q: 4, kv: 4}}, // heads of 3
		{"by-head", 16, heads{q: 4, kv: 4}}, {"by-group", 1 << 20, heads{q: 1 << 62, kv: 1}}, {"k-of-groups", 8, heads{q: 1 << 40, kv: 1 << 20}},
	} {
		t.Run(fmt.Sprint(tt), func(t *testing.T) {
			if got, err := tt.order.rows(tt.rows, tt.heads); err == nil {
				t.Errorf("rows = %v, want an error", got)
			}
		})
	}
}
