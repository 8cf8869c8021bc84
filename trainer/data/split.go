package data

import (
	"fmt"
	"math"
	"math/rand/v2"
)

// split is a choice of records to hold out.
type split struct {
	held      []bool // of each record; nil: none is held out
	near      int    // records that have a near-duplicate
	equalOnly bool   // near-duplicates could not be kept on one side
}

// splitRecords holds out a fraction of the records, chosen by seed, at least one. Near-duplicates
// stay on one side, so that nothing held out was trained on; where hardly anything is left to choose from then, only those
// whose words are the same. Both parts keep the order of the files, and have something to learn, or the error says what to do.
// learns tells of each record whether it has a token to learn.
func splitRecords(p *prints, learns []bool, fraction float64, seed uint64, w *watch) (split, error) {
	group, sizes, err := p.group(false, w)
	if err != nil {
		return split{}, err
	}
	s := split{near: p.n - len(sizes)}
	if fraction == 0 {
		return s, nil
	}
	want := max(1, int(math.Round(fraction*float64(p.n))))
	held, ok := chooseGroups(group, sizes, learns, want, seed)
	if !ok {
		if group, sizes, err = p.group(true, w); err != nil {
			return s, err
		}
		held, ok = chooseGroups(group, sizes, learns, want, seed)
		s.equalOnly = true
	}
	if !ok {
		n := 0
		for _, l := range learns {
			n += ones(l)
		}
		return s, &FormatError{Msg: fmt.Sprintf("%d of %d records have something to learn, want at least 2 that differ to hold one out", n, p.n), Err: errSplit}
	}
	s.held = make([]bool, p.n)
	for i, g := range group {
		s.held[i] = held[g]
	}
	return s, nil
}

// chooseGroups holds out groups in an order by seed until there are enough records. ok is false where the groups that have
// something to learn are fewer than two, or where most records are in one group that neither side can do without.
func chooseGroups(group, sizes []int32, learns []bool, want int, seed uint64) (held []bool, ok bool) {
	useful := make([]bool, len(sizes))
	left := 0 // groups for training that have something to learn
	for i, g := range group {
		if learns[i] && !useful[g] {
			useful[g] = true
			left++
		}
	}
	if left < 2 {
		return nil, false
	}
	held = make([]bool, len(sizes))
	order := permutation(rand.New(rand.NewPCG(seed, splitStream)), len(sizes))
	n, learned := 0, false
	most := max(4*want, len(group)/2) // held out in the end
	take := func(g int32) {
		held[g] = true
		n += int(sizes[g])
		if useful[g] {
			left, learned = left-1, true
		}
	}
	for _, g := range order {
		if n >= want {
			break
		}
		if (!useful[g] || left > 1) && n+int(sizes[g]) <= most {
			take(g)
		}
	}
	for _, g := range order {
		if learned {
			break
		}
		if useful[g] && left > 1 && n+int(sizes[g]) <= most {
			take(g)
		}
	}
	return held, learned
}

// permutation is r.Perm(n) in half of its memory.
func permutation(r *rand.Rand, n int) []int32 {
	p := make([]int32, n)
	for i := range p {
		p[i] = int32(i)
	}
	r.Shuffle(n, func(i, j int) { p[i], p[j] = p[j], p[i] })
	return p
}
