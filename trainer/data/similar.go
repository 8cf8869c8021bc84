package data

import (
	"cmp"
	"errors"
	"slices"
	"strings"
	"unicode"

	"finetune/trainer/data/store"
)

// Records are near-duplicates where their words are the same but for case, punctuation and white space, or where, of at
// least leastWords words, the share of common triples of words is at least likeness (Jaccard's).
const (
	leastWords = 20
	likeness   = 0.8

	bands, bandRows = 16, 4 // of MinHash: two records that are as like as likeness share a band with a probability of 0.9998
)

// fingerprint is what is kept of a record's words to find near-duplicates.
type fingerprint struct {
	words   uint64   // hash of the words in order
	triples []uint64 // hashes of each three words in a row, ordered; nil for short records
}

// newFingerprint hashes by fixed numbers, so that two loads group alike.
func newFingerprint(texts []string) fingerprint {
	words := strings.FieldsFunc(strings.ToLower(strings.Join(texts, "\n")), func(r rune) bool { return !unicode.IsLetter(r) && !unicode.IsDigit(r) })
	f := fingerprint{words: offset}
	hashes := make([]uint64, len(words))
	for i, w := range words {
		hashes[i] = hashText(w)
		f.words = mix(f.words, hashes[i])
	}
	if len(words) < leastWords {
		return f
	}
	for i := range len(hashes) - 2 {
		f.triples = append(f.triples, mix(mix(mix(offset, hashes[i]), hashes[i+1]), hashes[i+2]))
	}
	slices.Sort(f.triples)
	f.triples = slices.Compact(f.triples)
	return f
}

const offset, prime = 14695981039346656037, 1099511628211 // FNV-1a's

func hashText(s string) uint64 {
	h := uint64(offset)
	for i := range len(s) {
		h = (h ^ uint64(s[i])) * prime
	}
	return h
}

// mix folds b into a, and spreads the bits (the finalizer of SplitMix64).
func mix(a, b uint64) uint64 {
	x := a*prime ^ b
	x = (x ^ x>>30) * 0xbf58476d1ce4e5b9
	x = (x ^ x>>27) * 0x94d049bb133111eb
	return x ^ x>>31
}

// alike returns Jaccard's index of two sets.
func alike(a, b []uint64) float64 {
	common := 0
	for i, j := 0, 0; i < len(a) && j < len(b); {
		switch {
		case a[i] < b[j]:
			i++
		case a[i] > b[j]:
			j++
		default:
			common, i, j = common+1, i+1, j+1
		}
	}
	return float64(common) / float64(len(a)+len(b)-common)
}

// signature is MinHash's: the least hash of the triples under each of several mixings.
func (f fingerprint) signature() (s [bands * bandRows]uint64) {
	for i := range s {
		s[i] = ^uint64(0)
		for _, t := range f.triples {
			s[i] = min(s[i], mix(uint64(i), t))
		}
	}
	return s
}

// sets joins things into sets.
type sets []int32

func newSets(n int) sets {
	s := make(sets, n)
	for i := range s {
		s[i] = int32(i)
	}
	return s
}

func (s sets) find(i int32) int32 {
	for s[i] != i {
		s[i] = s[s[i]]
		i = s[i]
	}
	return i
}

// join makes the smaller number stand for both.
func (s sets) join(a, b int32) {
	if a, b = s.find(a), s.find(b); a < b {
		s[b] = a
	} else {
		s[a] = b
	}
}

// prints are the fingerprints of records, in spools. Only what finds the groups is in memory, and that for one band at a time.
type prints struct {
	n       int
	words   store.Spool // uint64 a record: the hash of its words
	where   store.Spool // uint64 a record: the span of its triples; 0 of short records
	triples store.Spool // uint64 each
	bands   store.Spool // for each record that has triples, its number and a hash a band, uint64 each
	at      int64       // triples written
}

const bandsRow = 1 + bands // numbers

func newPrints(limit int, dir string) *prints {
	spool := store.Spool{Limit: limit, Dir: dir}
	return &prints{words: spool, where: spool, triples: spool, bands: spool}
}

// add keeps the fingerprint of the next record.
func (p *prints) add(f fingerprint) error {
	if len(f.triples) > maxTokens { // of a record of 16 MiB at most
		return unsupportedf("record of %d words, want at most %d", len(f.triples), maxTokens)
	}
	where := uint64(0)
	if f.triples != nil {
		where = uint64(newSpan(p.at, len(f.triples)))
		p.at += int64(len(f.triples))
		if err := p.addBands(f); err != nil {
			return err
		}
	}
	p.n++
	_, a := p.words.Write(bytesOf([]uint64{f.words}))
	_, b := p.where.Write(bytesOf([]uint64{where}))
	_, c := p.triples.Write(bytesOf(f.triples))
	return errors.Join(a, b, c)
}

func (p *prints) addBands(f fingerprint) error {
	row := [bandsRow]uint64{uint64(p.n)}
	signature := f.signature()
	for band := range bands {
		row[1+band] = offset
		for _, h := range signature[band*bandRows : (band+1)*bandRows] {
			row[1+band] = mix(row[1+band], h)
		}
	}
	_, err := p.bands.Write(bytesOf(row[:]))
	return err
}

func (p *prints) close() error {
	return errors.Join(p.words.Close(), p.where.Close(), p.triples.Close(), p.bands.Close())
}

// lists returns the content of the spools.
func (p *prints) lists() (words, where, triples, rows []uint64, err error) {
	for _, x := range []struct {
		list  *[]uint64
		spool *store.Spool
	}{{&words, &p.words}, {&where, &p.where}, {&triples, &p.triples}, {&rows, &p.bands}} {
		b, e := x.spool.Bytes()
		*x.list, err = listOf[uint64](b), errors.Join(err, e)
	}
	return words, where, triples, rows, err
}

// group numbers the groups of near-duplicates in order of appearance; with equalOnly, of those whose words are the same.
func (p *prints) group(equalOnly bool, w *watch) (group, sizes []int32, err error) {
	words, where, triples, rows, err := p.lists()
	if err != nil {
		return nil, nil, err
	}
	joined := newSets(p.n)
	c := collisions{watch: w}
	err = c.each(p.n, func(i int) (uint64, int32) { return words[i], int32(i) }, joined.join)
	if equalOnly || err != nil {
		group, sizes = joined.numbered()
		return group, sizes, err
	}
	of := func(i int32) []uint64 {
		s := span(where[i])
		return triples[s.from() : s.from()+int64(s.len())]
	}
	for band := range bands {
		key := func(i int) (uint64, int32) { return rows[i*bandsRow+1+band], int32(rows[i*bandsRow]) }
		err := c.each(len(rows)/bandsRow, key, func(first, i int32) {
			if joined.find(first) != joined.find(i) && alike(of(first), of(i)) >= likeness {
				joined.join(first, i)
			}
		})
		if err != nil {
			return nil, nil, err
		}
	}
	group, sizes = joined.numbered()
	return group, sizes, nil
}

// collisions finds equal keys by sorting, a part of all keys at a time.
type collisions struct {
	watch *watch
	part  []keyed
}

type keyed struct {
	key    uint64
	record int32
}

// each calls do for every record but the first that has a key, with that first one. key tells the key and the record of n rows.
func (c *collisions) each(n int, key func(i int) (uint64, int32), do func(first, record int32)) error {
	const most = 1 << 19 // keys at a time
	parts := uint64(n/most + 1)
	for part := range parts {
		c.part = c.part[:0]
		for i := range n {
			if k, record := key(i); k%parts == part {
				c.part = append(c.part, keyed{k, record})
			}
		}
		if err := c.watch.err(); err != nil {
			return err
		}
		slices.SortFunc(c.part, func(a, b keyed) int { return cmp.Or(cmp.Compare(a.key, b.key), cmp.Compare(a.record, b.record)) })
		for i, first := 1, 0; i < len(c.part); i++ {
			if c.part[i].key != c.part[first].key {
				first = i
			} else {
				do(c.part[first].record, c.part[i].record)
			}
		}
	}
	return nil
}

// numbered gives each set a number.
func (s sets) numbered() (group, sizes []int32) {
	group = make([]int32, len(s))
	for i := range s {
		if root := s.find(int32(i)); int(root) < i { // the first of its set, which has its number
			group[i] = group[root]
		} else {
			group[i] = int32(len(sizes))
			sizes = append(sizes, 0)
		}
		sizes[group[i]]++
	}
	return group, sizes
}
