package data

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"reflect"
	"slices"
	"testing"
)

// checkPacking holds every window against the documents in it.
func checkPacking(t *testing.T, w *Windows) {
	t.Helper()
	tokens, trained := 0, 0
	for i := range w.Len() {
		win := w.At(i)
		at := 0
		for doc, e := range w.Examples(i) {
			for j := range len(e.Tokens) - 1 {
				want := fmt.Sprint(e.Tokens[j], e.Tokens[j+1], j, doc, weight(e.LossMask[j+1]))
				got := fmt.Sprint(win.Tokens[at], win.Targets[at], win.Pos[at], win.Doc[at], win.LossMask[at])
				if got != want {
					t.Fatalf("window %d place %d: token, target, position, document, weight = %s, want %s", i, at, got, want)
				}
				at++
				tokens++
				if e.LossMask[j+1] {
					trained++
				}
			}
		}
		for ; at < w.NCtx(); at++ {
			if win.LossMask[at] != 0 || int(win.Doc[at]) != len(w.Examples(i)) {
				t.Fatalf("window %d place %d: padding has weight %g and document %d, want 0 and %d", i, at, win.LossMask[at], win.Doc[at], len(w.Examples(i)))
			}
		}
	}
	if s := w.Stats(); s.Tokens != tokens || s.TrainedTokens != trained || s.Windows != w.Len() {
		t.Fatalf("Stats() = %+v, counted %d tokens, %d trained, %d windows", s, tokens, trained, w.Len())
	}
}

func weight(train bool) float32 {
	if train {
		return 1
	}
	return 0
}

// packExamples packs what was not read from a file.
func packExamples(t *testing.T, all []example, nCtx int) *Windows {
	t.Helper()
	var words bytes.Buffer
	tokens := tokenWriter{w: &words}
	var spans []span
	targets := 0
	for _, e := range all {
		s, err := tokens.add(e)
		if err != nil {
			t.Fatal(err)
		}
		spans, targets = append(spans, s), targets+e.targets()
	}
	return &Windows{nCtx: nCtx, words: listOf[word](words.Bytes()), packed: pack(spans, targets, nCtx, Stats{})}
}

func TestPackingLosesNothing(t *testing.T) {
	for seed := range uint64(50) {
		r := rand.New(rand.NewPCG(seed, 0))
		nCtx := 1 + r.IntN(150)
		var in []example
		for id := range int32(r.IntN(200)) {
			e := example{Tokens: make([]int32, 2+r.IntN(nCtx))}
			for j := range e.Tokens {
				e.Tokens[j] = id
				e.LossMask = append(e.LossMask, r.IntN(2) == 0)
			}
			in = append(in, e)
		}
		w := packExamples(t, in, nCtx)
		checkPacking(t, w)
		var ids []int32
		for _, e := range examples(w) {
			if len(e.Tokens) != len(in[e.Tokens[0]].Tokens) {
				t.Fatalf("seed %d: example %d has %d tokens, want %d", seed, e.Tokens[0], len(e.Tokens), len(in[e.Tokens[0]].Tokens))
			}
			ids = append(ids, e.Tokens[0])
		}
		slices.Sort(ids)
		for i, id := range ids {
			if int(id) != i {
				t.Fatalf("seed %d: example %d is missing or twice", seed, i)
			}
		}
		if len(ids) != len(in) {
			t.Fatalf("seed %d: %d examples in the windows, want %d", seed, len(ids), len(in))
		}
	}
}

func TestPackingIsTight(t *testing.T) {
	var in []example
	for _, places := range []int{3, 7, 5, 5, 10, 2, 8} {
		in = append(in, example{make([]int32, places+1), make([]bool, places+1)})
	}
	w := packExamples(t, in, 10)
	if w.Len() != 4 || w.Stats().Padding != 0 {
		t.Errorf("40 places in windows of 10: %d windows with %g padding, want 4 with 0", w.Len(), w.Stats().Padding)
	}
}

// A window of 5 holds 5 tokens and their targets: 6 tokens of a record fit, 7 do not.
func TestLongRecordsAreCutOrSkipped(t *testing.T) {
	path := write(t, "a.jsonl", `{"prompt": "abc", "completion": "defgh"}
{"prompt": "abcdefghij", "completion": "k"}
{"prompt": "ab", "completion": "xyz"}
{"prompt": "ab", "completion": "vwxy"}
{"prompt": "a", "completion": "b"}`)
	tok := byteTokenizer{}
	for _, c := range []struct {
		long longRecords
		want string
		s    Stats
	}{
		{cutLong, "[abc«def» ab«xyz</s>» ab«vwxy» a«b</s>»]", Stats{Records: 5, Cut: 3, NoLoss: 1, Examples: 4, Tokens: 17, TrainedTokens: 13, Windows: 4, Padding: 0.15}},
		{skipLong, "[ab«xyz</s>» a«b</s>»]", Stats{Records: 5, Skipped: 3, Examples: 2, Tokens: 7, TrainedTokens: 6, Windows: 2, Padding: 0.3}},
	} {
		set := mustLoad(t, path, options{NCtx: 5, Tokenizer: tok, LongRecords: c.long})
		var got []string
		for _, e := range examples(set.Train) {
			got = append(got, marked(e, tok))
		}
		stats := set.Train.Stats()
		stats.Source, stats.Lengths = nil, nil
		if fmt.Sprint(got) != c.want || !reflect.DeepEqual(stats, c.s) {
			t.Errorf("long records %d: %v %+v, want %s %+v", c.long, got, set.Train.Stats(), c.want, c.s)
		}
	}
}

func TestBlankWindowTrainsNothing(t *testing.T) {
	w := Blank(4)
	if got := fmt.Sprint(w); got != "{[0 0 0 0] [0 0 0 0] [0 1 2 3] [0 0 0 0] [0 0 0 0]}" {
		t.Errorf("Blank(4) = %s", got)
	}
}
