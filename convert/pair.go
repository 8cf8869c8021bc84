package convert

import (
	"fmt"
	"slices"
)

// pair is a LoRA on one weight: ΔW = scale·B·A. With magnitudes it is a DoRA, see dora.go.
type pair struct {
	a          matrix // [rank][in]
	b          matrix // [out][rank]
	scale      float64
	magnitudes matrix // [out][1]; without read for a LoRA
}

func (p pair) rank() int { return p.a.rows }

// widened returns the pair with rank r, the added components of which are zero.
func (p pair) widened(r int) pair {
	if r == p.rank() {
		return p
	}
	p.a = p.a.pickRows(padded(p.rank(), 0, r))
	p.b = p.b.pickColumns(padded(p.rank(), 0, r))
	return p
}

// padded lists 0 to n-1 from place at on, in r places, the others -1.
func padded(n, at, r int) []int {
	list := slices.Repeat([]int{-1}, r)
	for i := range n {
		list[at+i] = i
	}
	return list
}

// rowMap says that rows of one weight are rows of another: row put[i] of the
// second is row take[i] of the first. Nil is all rows in their order. Column i of the
// second is column columns[i] of the first, nil likewise.
type rowMap struct {
	from, to  string
	take, put []int
	columns   []int
}

// mappedPairs is what became of the pairs of one side on the other.
type mappedPairs struct {
	pairs     map[string]pair
	joined    []string // were made of several
	divided   []string // became several
	reordered int      // pairs whose rows or columns have another order
}

// mapPairs takes pairs over the row maps, which name every key of from. rows is the
// number of rows of each weight on the other side.
//
// A weight whose rows go to several others shares A among them: B is cut by rows,
// and that is exact. Several that go to one share A if they have the same one, as
// those that were cut have. Else the ranks add up: A is stacked, and B has a block
// for each, which is exact too, and taken apart again on the way back.
func mapPairs(from map[string]pair, maps []rowMap, rows map[string]int) (mappedPairs, error) {
	c := mappedPairs{pairs: map[string]pair{}}
	bySource := map[string][]rowMap{}
	for _, x := range maps {
		if _, ok := from[x.from]; ok {
			bySource[x.from] = append(bySource[x.from], x)
		}
	}
	given := map[string][]contribution{}
	var order []string
	for _, x := range maps {
		group := bySource[x.from]
		delete(bySource, x.from) // all of it at its first map
		divided, err := divide(from[x.from], group)
		if err != nil {
			return c, err
		}
		if len(group) > 1 {
			c.divided = append(c.divided, x.from)
		}
		for _, p := range divided {
			if given[p.to] == nil {
				order = append(order, p.to)
			}
			given[p.to] = append(given[p.to], p)
		}
	}
	for _, to := range order {
		p, err := join(given[to], rows[to])
		if err != nil {
			return c, err
		}
		if len(given[to]) > 1 {
			c.joined = append(c.joined, to)
		}
		if slices.ContainsFunc(given[to], contribution.moves) {
			c.reordered++
		}
		if given[to][0].isDoRA() {
			if p.magnitudes, err = joinedMagnitudes(given[to], rows[to]); err != nil {
				return c, fmt.Errorf("weight %q: %w", to, err)
			}
		}
		c.pairs[to] = p
	}
	return c, nil
}

// contribution is what one weight gives to another.
type contribution struct {
	pair
	rowMap
}

// moves reports whether the rows or the columns come in another order.
func (p contribution) moves() bool {
	return !slices.IsSorted(p.take) || !slices.IsSorted(p.put) || !slices.IsSorted(p.columns)
}

// divide cuts a pair by the rows that its maps take.
func divide(p pair, group []rowMap) ([]contribution, error) {
	var given []contribution
	owners, err := ownersOfRank(p, group)
	if err != nil {
		return nil, err
	}
	for i, x := range group {
		columns := owners.of(i)
		if columns != nil && len(columns) == 0 {
			continue // nothing of it is for these rows
		}
		cut := pair{a: p.a.pickRows(columns).pickColumns(x.columns), b: p.b.pickRows(x.take).pickColumns(columns), scale: p.scale}
		if p.isDoRA() {
			cut.magnitudes = p.magnitudes.pickRows(x.take)
		}
		given = append(given, contribution{cut, x})
	}
	return given, nil
}

// owners says which row map each of the rank's components is for; nil if they are
// for all.
type owners []int

// of lists the components of the i-th map.
func (o owners) of(i int) []int {
	if o == nil {
		return nil
	}
	list := []int{}
	for component, owner := range o {
		if owner == i {
			list = append(list, component)
		}
	}
	return list
}

// ownersOfRank finds out whether a pair was stacked from several: then each column of
// B is zero but for the rows of one map. A column that is zero altogether goes
// with the one before it.
func ownersOfRank(p pair, group []rowMap) (owners, error) {
	if len(group) < 2 || p.isDoRA() { // which scales the rows that no component changes too
		return nil, nil
	}
	b, err := p.b.floats()
	if err != nil {
		return nil, err
	}
	r := p.rank()
	found := owners(slices.Repeat([]int{-1}, r))
	for i, x := range group {
		for _, row := range x.take {
			for component, v := range b[row*r : (row+1)*r] {
				if v == 0 {
					continue
				}
				if found[component] >= 0 && found[component] != i {
					return nil, nil
				}
				found[component] = i
			}
		}
	}
	first := slices.IndexFunc(found, func(owner int) bool { return owner >= 0 })
	if first < 0 { // an adapter that was never trained
		return nil, nil
	}
	last := found[first]
	for component, owner := range found {
		if owner < 0 {
			found[component] = last
		}
		last = found[component]
	}
	return found, nil
}

// join makes the pair of a weight of n rows of what others give to it.
func join(given []contribution, n int) (pair, error) {
	shared, err := sameA(given)
	if err != nil {
		return pair{}, err
	}
	total := 0
	for _, p := range given {
		total += p.rank()
	}
	var as, bs []matrix
	rank := 0 // of the contributions before
	for _, p := range given {
		b := p.b
		if p.scale != given[0].scale {
			b = b.scaled(p.scale / given[0].scale)
		}
		if !shared {
			b = b.pickColumns(padded(p.rank(), rank, total))
		}
		as, bs, rank = append(as, p.a), append(bs, b), rank+p.rank()
	}
	if shared {
		as = as[:1]
	}
	joined := pair{a: stacked(sameType(as)), b: stacked(sameType(bs)), scale: given[0].scale}
	joined.b = joined.b.pickRows(placed(given, n))
	return joined, nil
}

// sameA reports whether all contributions have one A, so that their ranks need not add up.
func sameA(given []contribution) (bool, error) {
	for _, p := range given[1:] {
		if same, err := p.a.equal(given[0].a); err != nil || !same || p.scale != given[0].scale {
			return false, err
		}
	}
	return true, nil
}

// placed lists which row of the contributions' stacked B belongs in each of n rows, -1
// for none. Nil is all as they are.
func placed(given []contribution, n int) []int {
	if len(given) == 1 && given[0].put == nil {
		return nil
	}
	rows := slices.Repeat([]int{-1}, n)
	at := 0
	for _, p := range given {
		for i := range p.b.rows {
			to := i
			if p.put != nil {
				to = p.put[i]
			}
			rows[to] = at + i
		}
		at += p.b.rows
	}
	return rows
}

// stackOf gives the experts of a layer one type, one rank and one scale, that of the
// first there is. Those that are missing are nil, and become zero.
func stackOf(experts []*pair) []pair {
	var as, bs []matrix
	rank, scale := 0, 0.0
	for _, p := range experts {
		if p == nil {
			continue
		}
		if scale == 0 {
			scale = p.scale
		}
		b := p.b
		if p.scale != scale {
			b = b.scaled(p.scale / scale)
		}
		rank, as, bs = max(rank, p.rank()), append(as, p.a), append(bs, b)
	}
	as, bs = sameType(as), sameType(bs)
	var all []pair
	next := 0 // of as and bs
	for _, p := range experts {
		if p == nil {
			all = append(all, pair{a: zeros(as[0].typ, rank, as[0].cols), b: zeros(bs[0].typ, bs[0].rows, rank), scale: scale})
			continue
		}
		all = append(all, pair{a: as[next], b: bs[next], scale: scale}.widened(rank))
		next++
	}
	return all
}
