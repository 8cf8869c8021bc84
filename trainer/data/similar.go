package data

import (
	"slices"
	"strings"
	"unicode"
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

// groupSimilar numbers the groups of near-duplicates in order of appearance.
func groupSimilar(prints []fingerprint) (group, sizes []int) {
	joined := newSets(len(prints))
	first := map[uint64]int32{}
	for i, f := range prints {
		if j, ok := first[f.words]; ok {
			joined.join(j, int32(i))
		} else {
			first[f.words] = int32(i)
		}
	}
	buckets := map[[2]uint64]int32{}
	for i, f := range prints {
		if f.triples == nil {
			continue
		}
		signature := f.signature()
		for band := range bands {
			key := [2]uint64{uint64(band), offset}
			for _, h := range signature[band*bandRows : (band+1)*bandRows] {
				key[1] = mix(key[1], h)
			}
			j, ok := buckets[key]
			if !ok {
				buckets[key] = int32(i)
			} else if joined.find(j) != joined.find(int32(i)) && alike(prints[j].triples, f.triples) >= likeness {
				joined.join(j, int32(i))
			}
		}
	}
	return joined.numbered()
}

// numbered gives each set a number.
func (s sets) numbered() (group, sizes []int) {
	group = make([]int, len(s))
	number := map[int32]int{}
	for i := range s {
		root := s.find(int32(i))
		g, ok := number[root]
		if !ok {
			g = len(sizes)
			number[root] = g
			sizes = append(sizes, 0)
		}
		group[i] = g
		sizes[g]++
	}
	return group, sizes
}
