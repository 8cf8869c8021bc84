package data

import (
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"hash"
	"math"
	"math/rand/v2"
)

// splitRecords holds out a fraction of the records, chosen by seed, at least one. Records
// of equal tokens stay on one side, so that nothing held out was trained on. Both parts keep
// the order of the file.
func splitRecords(records []encoded, fraction float64, seed uint64) (train, val []encoded, err error) {
	if fraction == 0 {
		return records, nil, nil
	}
	group, sizes := groupEqual(records)
	if len(sizes) < 2 {
		return nil, nil, fmt.Errorf("%d distinct record, want at least 2 to hold one out", len(sizes))
	}
	want := max(1, int(math.Round(fraction*float64(len(records)))))
	held := make([]bool, len(sizes))
	n := 0
	for i, g := range rand.New(rand.NewPCG(seed, splitStream)).Perm(len(sizes)) {
		if n >= want || i == len(sizes)-1 { // one group stays for training
			break
		}
		held[g] = true
		n += sizes[g]
	}
	for i, r := range records {
		if held[group[i]] {
			val = append(val, r)
		} else {
			train = append(train, r)
		}
	}
	return train, val, nil
}

// groupEqual numbers the distinct records in order of appearance.
func groupEqual(records []encoded) (group, sizes []int) {
	seen := map[[sha256.Size]byte]int{}
	group = make([]int, len(records))
	h := sha256.New()
	for i, r := range records {
		h.Reset()
		for _, e := range r.examples {
			hashTokens(h, e.Tokens)
		}
		key := [sha256.Size]byte(h.Sum(nil))
		g, ok := seen[key]
		if !ok {
			g = len(sizes)
			seen[key] = g
			sizes = append(sizes, 0)
		}
		group[i] = g
		sizes[g]++
	}
	return group, sizes
}

// hashTokens writes the count before the tokens, so that two examples never read as one.
func hashTokens(h hash.Hash, tokens []int32) {
	b := binary.LittleEndian.AppendUint64(nil, uint64(len(tokens)))
	for _, t := range tokens {
		b = binary.LittleEndian.AppendUint32(b, uint32(t))
	}
	h.Write(b)
}
