package data

import (
	"fmt"
	"math"
	"math/rand/v2"
)

// split is a choice of records to hold out.
type split struct {
	train, val []encoded
	near       int  // records that have a near-duplicate
	equalOnly  bool // near-duplicates could not be kept on one side
}

// splitRecords holds out a fraction of the records, chosen by seed, at least one. Near-duplicates
// stay on one side, so that nothing held out was trained on; where hardly anything is left to choose from then, only those
// whose words are the same. Both parts keep the order of the files, and have something to learn, or the error says what to do.
// trains tells whether a record has a token to learn.
func splitRecords(records []encoded, fraction float64, seed uint64, trains func(encoded) bool) (split, error) {
	prints := make([]fingerprint, len(records))
	for i, r := range records {
		prints[i] = r.print
	}
	group, sizes := groupSimilar(prints)
	s := split{train: records, near: len(records) - len(sizes)}
	if fraction == 0 {
		return s, nil
	}
	learns := make([]bool, len(records))
	for i, r := range records {
		learns[i] = trains(r)
	}
	want := max(1, int(math.Round(fraction*float64(len(records)))))
	held, ok := chooseGroups(group, sizes, learns, want, seed)
	if !ok {
		for i := range prints {
			prints[i].triples = nil
		}
		group, sizes = groupSimilar(prints)
		held, ok = chooseGroups(group, sizes, learns, want, seed)
		s.equalOnly = true
	}
	if !ok {
		n := 0
		for _, l := range learns {
			if l {
				n++
			}
		}
		return s, &FormatError{Msg: fmt.Sprintf("%d of %d records have something to learn, want at least 2 that differ to hold one out", n, len(records)), Err: errSplit}
	}
	s.train = nil
	for i, r := range records {
		if held[group[i]] {
			s.val = append(s.val, r)
		} else {
			s.train = append(s.train, r)
		}
	}
	return s, nil
}

// chooseGroups holds out groups in an order by seed until there are enough records. ok is false where the groups that have
// something to learn are fewer than two, or where most records are in one group that neither side can do without.
func chooseGroups(group, sizes []int, learns []bool, want int, seed uint64) (held []bool, ok bool) {
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
	order := rand.New(rand.NewPCG(seed, splitStream)).Perm(len(sizes))
	n, learned := 0, false
	most := max(4*want, len(group)/2) // held out in the end
	take := func(g int) {
		held[g] = true
		n += sizes[g]
		if useful[g] {
			left, learned = left-1, true
		}
	}
	for _, g := range order {
		if n >= want {
			break
		}
		if (!useful[g] || left > 1) && n+sizes[g] <= most {
			take(g)
		}
	}
	for _, g := range order {
		if learned {
			break
		}
		if useful[g] && left > 1 && n+sizes[g] <= most {
			take(g)
		}
	}
	return held, learned
}
