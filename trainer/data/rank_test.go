package data

import (
	"context"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"finetune/chat"
	"finetune/run"
)

// ranking is a vocabulary of bytes that puts < before a query, > behind both texts and | between them, as far as it is told.
type ranking struct {
	byteTokenizer
	bos, eos, sep bool
}

func (ranking) BOS() int32     { return '<' }
func (ranking) EOS() int32     { return '>' }
func (ranking) SEP() int32     { return '|' }
func (r ranking) AddBOS() bool { return r.bos }
func (r ranking) AddEOS() bool { return r.eos }
func (r ranking) AddSEP() bool { return r.sep }

// The tokens are those of llama-server's format_prompt_rerank, with a line end where that puts nothing between the texts.
func TestTokensOfAQueryAndADocument(t *testing.T) {
	t.Parallel()
	bert, roberta := ranking{bos: true, sep: true}, ranking{bos: true, eos: true, sep: true}
	for _, c := range []struct {
		tok      ranking
		template string
		most     int
		want     string
		cut      bool
	}{
		{bert, "", 0, "<who|document", false},
		{roberta, "", 0, "<who>|document>", false},
		{ranking{bos: true}, "", 0, "<who\ndocument", false},
		{bert, "", 13, "<who|document", false},
		{bert, "", 9, "<who|docu", true},
		{roberta, "", 8, "<who>|d>", true},
		{bert, "q: {query} d: {document}.", 0, "q: who d: document.", false},
		{bert, "q: {query} d: {document}.", 15, "q: who d: docu.", true},
	} {
		ids, cut, err := RankTokens(c.tok, c.template, "who", "document", c.most)
		got := ""
		for _, id := range ids {
			got += string(rune(id))
		}
		if err != nil || got != c.want || cut != c.cut {
			t.Errorf("in %d by %q: %q, cut %v, %v, want %q, cut %v", c.most, c.template, got, cut, err, c.want, c.cut)
		}
	}
	for _, template := range []string{"", "{query}{document}"} {
		if _, _, err := RankTokens(bert, template, "a long query", "d", 6); err == nil || !strings.Contains(err.Error(), "leaves no room for a document in 6") {
			t.Errorf("by %q a long query: %v, want that there is no room", template, err)
		}
	}
}

func loadRanking(t *testing.T, content string, o options) (*dataset, error) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "ranking.jsonl")
	if err := os.WriteFile(path, []byte(content), 0o666); err != nil {
		t.Fatal(err)
	}
	o.NCtx, o.Tokenizer, o.Ranks = 32, ranking{bos: true, sep: true}, &ranks{}
	set, err := loadFile(path, o)
	if err != nil {
		return nil, err
	}
	return set, settle(run.Config{}, set.Train, set.Val)
}

// relevancesOf returns the texts of all documents with their relevances, in the order of the alphabet.
func relevancesOf(w *Windows) map[string]float32 {
	all := map[string]float32{}
	for i := range w.Len() {
		for _, d := range w.At(i).Documents() {
			text := ""
			for _, id := range d.Tokens {
				text += string(rune(id))
			}
			all[text] = Relevance(d.Targets[len(d.Targets)-1])
		}
	}
	return all
}

func TestRecordsOfARanking(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		content string
		want    map[string]float32
	}{
		"0 and 1":      {`{"query":"q","document":"a","relevance":1}` + "\n" + `{"query":"q","document":"b","relevance":0}`, map[string]float32{"<q|a": 1, "<q|b": 0}},
		"lists":        {`{"query":"q","positives":["a","b"],"negatives":["c"]}`, map[string]float32{"<q|a": 1, "<q|b": 1, "<q|c": 0}},
		"one and some": {`{"anchor":"q","positive":"a","negative":["b","c"]}`, map[string]float32{"<q|a": 1, "<q|b": 0, "<q|c": 0}},
		"grades":       {`{"query":"q","documents":["a","b","c"],"labels":[4,1,0]}`, map[string]float32{"<q|a": 1, "<q|b": 0.25, "<q|c": 0}},
		"shares":       {`{"query":"q","passage":"a","label":0.75}` + "\n" + `{"query":"q","passage":"b","label":"0.5"}`, map[string]float32{"<q|a": 0.75, "<q|b": 0.5}},
	} {
		set, err := loadRanking(t, c.content, options{})
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		got := relevancesOf(set.Train)
		same := len(got) == len(c.want)
		for text, v := range c.want {
			g, ok := got[text]
			same = same && ok && g == v
		}
		if !same {
			t.Errorf("%s: %v, want %v", name, got, c.want)
		}
	}
}

// No query is on both sides of a split, though its documents are records of their own.
func TestASplitKeepsQueriesWhole(t *testing.T) {
	t.Parallel()
	var content strings.Builder
	for _, q := range "abcdefgh" {
		for i, d := range "xyz" {
			content.WriteString(`{"query":"` + string(q) + `","document":"` + string(d) + `","relevance":` + string(rune('0'+i%2)) + "}\n")
		}
	}
	set, err := loadRanking(t, content.String(), options{ValFraction: 0.3, Seed: 5})
	if err != nil {
		t.Fatal(err)
	}
	side := map[byte]bool{}
	for text := range relevancesOf(set.Train) {
		side[text[1]] = true
	}
	held := relevancesOf(set.Val)
	for text := range held {
		if side[text[1]] {
			t.Errorf("query %q is on both sides", text[1])
		}
	}
	if len(held)%3 != 0 || len(held) == 0 {
		t.Errorf("%d documents are held out, want all of some queries", len(held))
	}
}

func TestDataThatIsNoRanking(t *testing.T) {
	t.Parallel()
	for content, want := range map[string]string{
		`{"query":"a","document":"b"}`:                                  `line 1: record has the fields "document", "query", want "query" and "document" with "relevance"`,
		`{"document":"b","relevance":1}`:                                `line 1: record has the fields "document", "relevance", want "query"`,
		`{"query":"a","document":"b","relevance":-1}`:                   `line 1: "relevance" is -1, want a relevance of 0 or more`,
		`{"query":"a","document":"b","relevance":"good"}`:               `line 1: "relevance" is "good", want a number`,
		`{"query":" ","document":"b","relevance":1}`:                    `line 1: "query" is empty, want a query`,
		`{"query":"a","document":"","relevance":1}`:                     `line 1: "document" is empty, want a document`,
		`{"query":"a","documents":["b","c"],"labels":[1]}`:              `line 1: "labels" is "[1]", want as many numbers as there are in "documents", 2`,
		`{"query":"a","positives":["b"]}`:                               `every document has the relevance 1, want some that are more relevant than others`,
		`{"query":"` + strings.Repeat("a", 40) + `","positives":["b"]}`: `line 1: query of 42 tokens with what stands around it, which leaves no room for a document in 32`,
	} {
		if _, err := loadRanking(t, content, options{}); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %s", content, err, want)
		}
	}
}

func TestRankedQueriesAreGrouped(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "ranking.jsonl")
	content := `{"query":"q","document":"a","relevance":3}` + "\n" + `{"query":"p","document":"b","relevance":0}` + "\n" + `{"query":"q","document":"c","relevance":1}`
	if err := os.WriteFile(path, []byte(content), 0o666); err != nil {
		t.Fatal(err)
	}
	queries, err := LoadRanked(context.Background(), run.Config{Data: path, Ctx: 32}, ranking{bos: true, sep: true}, chat.Source{Rerank: "{query}/{document}"}, nil)
	if err != nil {
		t.Fatal(err)
	}
	if len(queries) != 2 || !slices.Equal(queries[0].Relevances, []float32{3, 1}) || !slices.Equal(queries[0].Documents[1], []int32{'q', '/', 'c'}) {
		t.Errorf("queries %v, want q with 3 and 1, then p", queries)
	}
}
