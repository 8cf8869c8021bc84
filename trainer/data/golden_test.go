//go:build cgo

package data

import (
	"encoding/json"
	"flag"
	"os"
	"slices"
	"strings"
	"testing"

	"finetune/chat"
	"finetune/internal/need"
)

var update = flag.Bool("update", false, "write the tokens of testdata/formats/golden.json anew, from its texts")

// goldenFile is what is learned from one file.
type goldenFile struct {
	File    string    `json:"file"`
	Texts   []string  `json:"texts"` // learned parts in «»
	Tokens  [][]int32 `json:"tokens"`
	Learned [][]int   `json:"learned"` // positions of tokens
}

// TestGoldenTokensOfEachFormat: a file of each format gives the tokens and the mask that were written down.
func TestGoldenTokensOfEachFormat(t *testing.T) {
	const path = "testdata/formats/golden.json"
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var golden []goldenFile
	if err := json.Unmarshal(b, &golden); err != nil {
		t.Fatal(err)
	}
	m := openVocab(t, need.Own(t, "demo/base.gguf"))
	template, err := os.ReadFile("testdata/formats/tools.jinja")
	if err != nil {
		t.Fatal(err)
	}
	files, err := os.ReadDir("testdata/formats")
	if err != nil {
		t.Fatal(err)
	}
	if want := len(files) - 3; len(golden) != want {
		t.Errorf("golden.json has %d files, the folder %d", len(golden), want)
	}
	for i := range golden {
		g := &golden[i]
		if *update {
			g.write(t, m.Vocab())
		}
		set, err := loadFile("testdata/formats/"+g.File, options{NCtx: 500, Tokenizer: m.Vocab(), Template: chat.Source{Default: string(template)}})
		if err != nil {
			t.Errorf("%s: %v", g.File, err)
			continue
		}
		all := examples(set.Train)
		if len(all) != len(g.Tokens) {
			t.Errorf("%s: %d examples, want %d", g.File, len(all), len(g.Tokens))
			continue
		}
		for j, e := range all {
			if learned := positions(e); !slices.Equal(e.Tokens, g.Tokens[j]) || !slices.Equal(learned, g.Learned[j]) {
				t.Errorf("%s: %v, learned %v, want %v, %v\n%s\n%s", g.File, e.Tokens, learned, g.Tokens[j], g.Learned[j], marked(e, m.Vocab()), g.Texts[j])
			}
		}
	}
	if *update {
		out, err := json.Marshal(golden)
		if err != nil {
			t.Fatal(err)
		}
		out = []byte(strings.ReplaceAll(string(out), `{"file"`, "\n"+`{"file"`) + "\n")
		if err := os.WriteFile(path, out, 0o666); err != nil {
			t.Fatal(err)
		}
	}
}

// positions lists the tokens that are learned.
func positions(e example) []int {
	list := []int{}
	for i := range e.Tokens {
		if i > 0 && e.LossMask[i] {
			list = append(list, i)
		}
	}
	return list
}

// write tokenizes the texts: the parts in «» and those between them, each by itself.
func (g *goldenFile) write(t *testing.T, tok chat.Tokenizer) {
	g.Tokens, g.Learned = nil, nil
	for _, text := range g.Texts {
		var tokens []int32
		learned := []int{}
		for i, part := range strings.FieldsFunc(strings.ReplaceAll(text, "«", "»\x00"), func(r rune) bool { return r == '»' }) {
			part, isLearned := strings.CutPrefix(part, "\x00")
			ids, err := tok.Tokenize(part, i == 0 && tok.AddBOS(), true)
			if err != nil {
				t.Fatal(err)
			}
			for _, id := range ids {
				if isLearned {
					learned = append(learned, len(tokens))
				}
				tokens = append(tokens, id)
			}
		}
		g.Tokens, g.Learned = append(g.Tokens, tokens), append(g.Learned, learned)
	}
}
