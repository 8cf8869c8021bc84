//go:build cgo

package data

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os"
	"strings"
	"testing"

	"finetune/chat"
	"finetune/internal/need"
)

// manyRecords writes records of a form by a seed, some of them near-duplicates, empty or long.
func manyRecords(form string, n int, seed uint64) string {
	r := rand.New(rand.NewPCG(seed, 3))
	words := strings.Fields("the little girl went to her house and saw a big dog who was very sad because it had no friend at all 12 é 猫 😀")
	text := func(most int) string {
		all := make([]string, 1+r.IntN(most))
		for i := range all {
			all[i] = words[r.IntN(len(words))]
		}
		return strings.Join(all, " ")
	}
	var b strings.Builder
	var earlier []string
	for i := range n {
		most := 30
		if i%17 == 0 {
			most = 300
		}
		answer := text(most)
		switch {
		case i%7 == 3 && len(earlier) > 0:
			answer = earlier[r.IntN(len(earlier))]
		case i%7 == 5 && len(earlier) > 0:
			answer = strings.ToUpper(earlier[r.IntN(len(earlier))]) + "!"
		case i%23 == 9:
			answer = ""
		}
		earlier = append(earlier, answer)
		quoted, _ := json.Marshal(answer)
		question, _ := json.Marshal(text(6))
		fmt.Fprintf(&b, form+"\n", question, quoted)
	}
	return b.String()
}

// loads are data sets whose windows were hashed by version 0.3.0, before the data was streamed.
func loads() map[string]struct {
	name, text string
	o          options
} {
	type load = struct {
		name, text string
		o          options
	}
	prose := func(n int, seed uint64) string {
		var b strings.Builder
		for line := range strings.Lines(manyRecords("%s %s", n, seed)) {
			b.WriteString(strings.NewReplacer(`"`, "", `\n`, "\n").Replace(line))
		}
		return b.String()
	}
	template := chat.Source{Default: chatML}
	all := map[string]load{}
	for _, fraction := range []float64{0, 0.1, 0.5} {
		for _, nCtx := range []int{16, 100, 512} {
			name := func(what string) string { return fmt.Sprintf("%s, %g held out, %d", what, fraction, nCtx) }
			all[name("text")] = load{"a.txt", prose(400, 1), options{NCtx: nCtx, ValFraction: fraction}}
			all[name("long text")] = load{"a.md", prose(3000, 2), options{NCtx: nCtx, ValFraction: fraction}}
			all[name("completions")] = load{"a.jsonl", manyRecords(`{"prompt": %s, "completion": %s}`, 300, 3), options{NCtx: nCtx, ValFraction: fraction, Seed: 5}}
			all[name("completions, long ones skipped")] = load{"a.jsonl", manyRecords(`{"prompt": %s, "completion": %s}`, 300, 3), options{NCtx: nCtx, ValFraction: fraction, Seed: 6, LongRecords: skipLong}}
			all[name("chats")] = load{"a.jsonl", manyRecords(`{"messages": [{"role": "user", "content": %s}, {"role": "assistant", "content": %s}, {"role": "user", "content": "and?"}, {"role": "assistant", "content": "no"}]}`, 200, 7),
				options{NCtx: nCtx, ValFraction: fraction, Seed: 8, Template: template}}
			all[name("texts")] = load{"a.jsonl", manyRecords(`{"x": %s, "text": %s}`, 500, 9), options{NCtx: nCtx, ValFraction: fraction, Seed: 1}}
		}
	}
	return all
}

// TestWindowsAreThoseOfEarlierVersions: the order of the records, the split, near-duplicates and packing are as they were, so
// that earlier runs go on with the same data.
func TestWindowsAreThoseOfEarlierVersions(t *testing.T) {
	const path = "testdata/windows.json"
	golden := map[string]string{}
	if b, err := os.ReadFile(path); err != nil && !*update {
		t.Fatal(err)
	} else if err == nil {
		if err := json.Unmarshal(b, &golden); err != nil {
			t.Fatal(err)
		}
	}
	vocab := openVocab(t, need.Own(t, "demo/base.gguf")).Vocab()
	got := map[string]string{}
	for name, l := range loads() {
		for _, tok := range []struct {
			name string
			chat.Tokenizer
		}{{"bytes", byteTokenizer{}}, {"bytes with BOS", byteTokenizer{addBOS: true}}, {"demo", vocab}} {
			l.o.Tokenizer = tok.Tokenizer
			name := tok.name + ", " + name
			set, err := loadFile(write(t, l.name, l.text), l.o)
			if err != nil {
				_, text, _ := strings.Cut(err.Error(), l.name)
				got[name] = text
				continue
			}
			got[name] = hashed(set.Train) + " " + hashed(set.Val)
		}
	}
	if *update {
		b, err := json.MarshalIndent(got, "", " ")
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, append(b, '\n'), 0o666); err != nil {
			t.Fatal(err)
		}
		return
	}
	if len(golden) != len(got) {
		t.Errorf("%d data sets, want %d", len(got), len(golden))
	}
	for name, sum := range got {
		if sum != golden[name] {
			t.Errorf("%s: other windows: %s, want %s", name, sum, golden[name])
		}
	}
}

// hashed sums up windows, the documents in them and most of the counts.
func hashed(w *Windows) string {
	if w == nil {
		return "none"
	}
	h := sha256.New()
	for i := range w.Len() {
		win := w.At(i)
		for _, part := range []any{win.Tokens, win.Targets, win.Pos, win.Doc, win.LossMask} {
			binary.Write(h, binary.LittleEndian, part)
		}
		for _, e := range w.Examples(i) {
			binary.Write(h, binary.LittleEndian, e.Tokens)
		}
	}
	s := w.Stats()
	upTo, counts := s.Histogram()
	near := 0
	if s.Source != nil {
		near = s.Source.Duplicates
	}
	fmt.Fprint(h, s.Records, s.Cut, s.Skipped, s.NoLoss, s.Empty, s.EmptyRecords, s.StopsInside, s.StopsAdded, s.Examples, s.Tokens, s.TrainedTokens, s.Windows, s.Padding, upTo, counts, near, Describe(w, nil)[1])
	return fmt.Sprintf("%x", h.Sum(nil)[:8])
}
