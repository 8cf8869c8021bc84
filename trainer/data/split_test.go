package data

import (
	"fmt"
	"slices"
	"strings"
	"testing"
)

// letters writes n records, every third a repetition of the first of its ten.
func letters(n int) string {
	var b strings.Builder
	for i := range n {
		if i%3 == 2 {
			i -= i % 10
		}
		fmt.Fprintf(&b, "{\"text\": \"record %d\"}\n", i)
	}
	return b.String()
}

func TestHeldOutRecordsAreNeverTrained(t *testing.T) {
	path := write(t, "a.jsonl", letters(200))
	tok := byteTokenizer{addBOS: true}
	for seed := range uint64(20) {
		set := mustLoad(t, path, options{NCtx: 64, Tokenizer: tok, ValFraction: 0.2, Seed: seed})
		trained := map[string]bool{}
		for _, e := range examples(set.Train) {
			trained[marked(e, tok)] = true
		}
		for _, e := range examples(set.Val) {
			if trained[marked(e, tok)] {
				t.Fatalf("seed %d: %s is in both parts", seed, marked(e, tok))
			}
		}
		n := set.Val.Stats().Records
		if n+set.Train.Stats().Records != 200 || n < 40 || n > 50 {
			t.Errorf("seed %d: %d of 200 records held out, want a fifth", seed, n)
		}
	}
}

func TestSplitFollowsTheSeed(t *testing.T) {
	path := write(t, "a.jsonl", letters(60))
	tok := byteTokenizer{}
	held := func(seed uint64) string {
		set := mustLoad(t, path, options{NCtx: 64, Tokenizer: tok, ValFraction: 0.1, Seed: seed})
		var s []string
		for _, e := range examples(set.Val) {
			s = append(s, marked(e, tok))
		}
		return strings.Join(s, ",")
	}
	if first, again := held(1), held(1); first != again {
		t.Error("one seed, two splits")
	}
	if held(1) == held(2) {
		t.Error("two seeds, one split")
	}
}

func TestOneRecordCannotBeSplit(t *testing.T) {
	path := write(t, "a.jsonl", `{"text": "same"}`+"\n"+`{"text": "same"}`)
	_, err := loadFile(path, options{NCtx: 8, Tokenizer: byteTokenizer{}, ValFraction: 0.5})
	if err == nil || !strings.Contains(err.Error(), "2 of 2 records have something to learn, want at least 2 that differ to hold one out") {
		t.Errorf("Load = %v, want a refusal", err)
	}
}

func TestOrderIsAPermutationOfItsOwn(t *testing.T) {
	const n = 100
	sorted := make([]int, n)
	for i := range sorted {
		sorted[i] = i
	}
	a, b, c := Order(1, 0, n), Order(1, 1, n), Order(2, 0, n)
	for _, o := range [][]int{a, b, c} {
		if !slices.Equal(slices.Sorted(slices.Values(o)), sorted) {
			t.Errorf("Order = %v, want a permutation", o)
		}
	}
	if slices.Equal(a, b) || slices.Equal(a, c) || slices.Equal(a, sorted) {
		t.Error("two epochs or two seeds have one order")
	}
	if !slices.Equal(a, Order(1, 0, n)) {
		t.Error("Order(1, 0, n) differs from itself")
	}
	// The numbers are part of what a checkpoint relies on.
	if got := fmt.Sprint(Order(1, 0, 8)); got != orderOfSeed1 {
		t.Errorf("Order(1, 0, 8) = %s, want %s", got, orderOfSeed1)
	}
}

const orderOfSeed1 = "[2 7 1 5 6 4 0 3]"
