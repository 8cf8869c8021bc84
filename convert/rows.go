package convert

import (
	"fmt"
	"strings"
)

// An order says which rows of a module's weight, as transformers keeps it, lie in a
// tensor of the GGUF, and where. llama.cpp's converter moves rows in five ways:
//
//	q-pairs, k-pairs  transformers rotates the two halves of a head against each
//	                  other, llama.cpp neighbours: of d rows of a head, i and i+d/2
//	                  become 2i and 2i+1
//	by-head           the module has q, k and v of the first head, then of the next;
//	                  the tensor all of q, all of k, all of v
//	by-group          the same, where the heads that share a key and a value make a
//	                  group: their q, then its k and its v
//	q-of-groups …     by-group, and then three tensors, of which q and k are in pairs
//	q-of-qkv …        three modules in one tensor
//	state-v           transformers has the heads of v that share a head of k, in a
//	                  gated delta rule, one after the other; llama.cpp the first of each
//	                  head of k, then the second. state-qkv: q and k, then v so;
//	                  v-to-state: the columns, of the module that reads the heads
//
// B has the rows, A the columns.
type order string

// heads are the heads of a layer: of its attention, or of its gated delta rule.
type heads struct{ q, kv, stateK, stateV int }

// ofState reports whether the order is one of a gated delta rule's heads.
func (o order) ofState() bool { return strings.Contains(string(o), "state") }

// moved is an order worked out for one tensor: row place[i] of the tensor is row
// from[i] of the module. Nil is all rows as they are. Column i of the tensor is
// column columns[i] of the module, nil likewise.
type rowOrder struct{ from, place, columns []int }

// of works out an order for a tensor [in][out] in a layer with the given heads.
func (o order) of(in, out int, h heads) (rowOrder, error) {
	if o == "v-to-state" {
		list, err := o.ofHeads(in, 0, h)
		return rowOrder{columns: list}, err
	}
	return o.rows(out, h)
}

// rows works out an order for a tensor of n rows.
func (o order) rows(n int, h heads) (rowOrder, error) {
	switch o {
	case "":
		return rowOrder{}, nil
	case "state-v":
		list, err := o.ofHeads(n, 0, h)
		return rowOrder{from: list}, err
	case "state-qkv":
		list, err := o.ofHeads(n, 2*h.stateK, h)
		return rowOrder{from: list}, err
	}
	d, err := o.headSize(n, h)
	if err != nil {
		return rowOrder{}, err
	}
	group := h.q/h.kv + 2 // heads in a group, with its k and v
	switch o {
	case "q-pairs":
		return rowOrder{from: pairs(h.q, d, adjacent)}, nil
	case "k-pairs":
		return rowOrder{from: pairs(h.kv, d, adjacent)}, nil
	case "by-head":
		q := run(h.q, d, func(i int) int { return 3 * i })
		k := run(h.q, d, func(i int) int { return 3*i + 1 })
		v := run(h.q, d, func(i int) int { return 3*i + 2 })
		return rowOrder{from: join3(q, k, v)}, nil
	case "by-group":
		q := run(h.q, d, qOfGroup(h))
		k := run(h.kv, d, func(i int) int { return i*group + group - 2 })
		v := run(h.kv, d, func(i int) int { return i*group + group - 1 })
		return rowOrder{from: join3(q, k, v)}, nil
	case "q-of-groups":
		return rowOrder{from: pairs(h.q, d, qOfGroup(h))}, nil
	case "k-of-groups":
		return rowOrder{from: pairs(h.kv, d, func(i int) int { return i*group + group - 2 })}, nil
	case "v-of-groups":
		return rowOrder{from: run(h.kv, d, func(i int) int { return i*group + group - 1 })}, nil
	case "q-of-qkv":
		return slab(h.q*d, 0), nil
	case "k-of-qkv":
		return slab(h.kv*d, h.q*d), nil
	case "v-of-qkv":
		return slab(h.kv*d, (h.q+h.kv)*d), nil
	}
	panic(fmt.Sprintf("convert: internal error: order %q is unknown", o))
}

// ofHeads lists where in the module n rows, or columns, of a gated delta rule's heads
// come from: `before` heads as they are, then those of v.
func (o order) ofHeads(n, before int, h heads) ([]int, error) {
	if h.stateK < 1 || h.stateV < 1 || h.stateK > n || h.stateV > n || h.stateV%h.stateK != 0 || n%(before+h.stateV) != 0 {
		return nil, fmt.Errorf("%d heads of keys and %d of values for %d rows or columns, want the first to divide the second", h.stateK, h.stateV, n)
	}
	d, shared := n/(before+h.stateV), h.stateV/h.stateK
	list := run(before, d, adjacent)
	for _, row := range run(h.stateV, d, func(i int) int { return i%h.stateK*shared + i/h.stateK }) {
		list = append(list, before*d+row)
	}
	return list, nil
}

// headSize returns the number of rows of one head in a tensor of n rows.
func (o order) headSize(n int, h heads) (int, error) {
	if h.q < 1 || h.kv < 1 || h.q%h.kv != 0 || h.q > n {
		return 0, fmt.Errorf("%d heads and %d key heads for %d rows, want the second to divide the first", h.q, h.kv, n)
	}
	count := map[order]int{
		"q-pairs": h.q, "k-pairs": h.kv, "by-head": 3 * h.q,
		"by-group": h.q + 2*h.kv, "q-of-qkv": h.q + 2*h.kv, "k-of-qkv": h.q + 2*h.kv, "v-of-qkv": h.q + 2*h.kv,
		"q-of-groups": h.q, "k-of-groups": h.kv, "v-of-groups": h.kv,
	}[o]
	if n%(2*count) != 0 { // heads have an even size, for their halves to be rotated
		return 0, fmt.Errorf("%d rows, want %d heads of an even size", n, count)
	}
	return n / count, nil
}

// adjacent: head i of the tensor is head i of the module.
func adjacent(i int) int { return i }

// qOfGroup returns where the i-th query head lies among the heads of all groups.
func qOfGroup(h heads) func(int) int {
	shared := h.q / h.kv
	return func(i int) int { return i/shared*(shared+2) + i%shared }
}

// run lists the rows of n heads of size d, the i-th of which is head at(i) of the module.
func run(n, d int, at func(int) int) []int {
	rows := make([]int, 0, n*d)
	for i := range n {
		for row := range d {
			rows = append(rows, at(i)*d+row)
		}
	}
	return rows
}

// pairs does what run does, with the halves of each head interleaved.
func pairs(n, d int, at func(int) int) []int {
	rows := make([]int, 0, n*d)
	for i := range n {
		for row := range d / 2 {
			rows = append(rows, at(i)*d+row, at(i)*d+row+d/2)
		}
	}
	return rows
}

// slab returns all of a module of n rows, from the tensor's row at on.
func slab(n, at int) rowOrder {
	m := rowOrder{from: make([]int, n), place: make([]int, n)}
	for i := range n {
		m.from[i], m.place[i] = i, at+i
	}
	return m
}

func join3(q, k, v []int) []int { return append(append(q, k...), v...) }
