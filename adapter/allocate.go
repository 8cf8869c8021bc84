package adapter

import (
	"container/heap"
	"fmt"
)

// spectrum is what the allocation of ranks has to know of one weight.
type spectrum struct {
	energy []float64 // σ² of the components that can be had, falling
	cost   int       // parameters of one component: n_in + n_out
}

// allocate gives every spectrum one component and spends what is left of the
// budget, in parameters, on the components with the most energy a parameter. It
// returns the rank of each. A component that no longer fits closes its weight
// and the search goes on with cheaper ones.
func allocate(spectra []spectrum, budget int) ([]int, error) {
	ranks := make([]int, len(spectra))
	for i, s := range spectra {
		ranks[i] = 1
		budget -= s.cost
	}
	if budget < 0 {
		return nil, fmt.Errorf("adapter: a budget %d parameters short of rank 1 for each of the %d weights", -budget, len(spectra))
	}
	q := &bids{}
	for i := range spectra {
		q.offer(spectra[i], i, ranks[i])
	}
	heap.Init(q)
	for q.Len() > 0 {
		best := heap.Pop(q).(bid)
		s := spectra[best.weight]
		if s.cost > budget {
			continue
		}
		budget -= s.cost
		ranks[best.weight]++
		if next, ok := bidFor(s, best.weight, ranks[best.weight]); ok {
			heap.Push(q, next)
		}
	}
	return ranks, nil
}

// bid is the next component of a weight.
type bid struct {
	weight  int
	density float64 // energy a parameter
}

func bidFor(s spectrum, weight, rank int) (bid, bool) {
	if rank >= len(s.energy) || s.energy[rank] == 0 {
		return bid{}, false
	}
	return bid{weight, s.energy[rank] / float64(s.cost)}, true
}

// bids is a heap with the densest bid on top, and the earlier weight among equals.
type bids []bid

func (q *bids) offer(s spectrum, weight, rank int) {
	if b, ok := bidFor(s, weight, rank); ok {
		*q = append(*q, b)
	}
}

func (q bids) Len() int      { return len(q) }
func (q bids) Swap(i, j int) { q[i], q[j] = q[j], q[i] }
func (q bids) Less(i, j int) bool {
	if q[i].density != q[j].density {
		return q[i].density > q[j].density
	}
	return q[i].weight < q[j].weight
}
func (q *bids) Push(x any) { *q = append(*q, x.(bid)) }
func (q *bids) Pop() any {
	last := (*q)[len(*q)-1]
	*q = (*q)[:len(*q)-1]
	return last
}
