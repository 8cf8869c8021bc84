package data

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

func loadPairs(t *testing.T, content string, nCtx int) (*dataset, error) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "pairs.jsonl")
	if err := os.WriteFile(path, []byte(content), 0o666); err != nil {
		t.Fatal(err)
	}
	return loadFile(path, options{NCtx: nCtx, Tokenizer: byteTokenizer{addBOS: true}, Pairs: true})
}

// The texts of a record are documents of one window, each with its role behind its last token, and queries alone in the loss.
func TestTextsThatBelongTogether(t *testing.T) {
	t.Parallel()
	set, err := loadPairs(t, `{"query":"ab","positive":"c","negative":["d","ef"]}`+"\n"+`{"query":"g","positive":"h","negative":[]}`, 18)
	if err != nil {
		t.Fatal(err)
	}
	if set.Train.Len() != 1 {
		t.Fatalf("%d windows, want 1", set.Train.Len())
	}
	w := set.Train.At(0)
	const b = bosID
	texts := set.Train.Texts()
	if len(texts) != 6 || texts[3].Role != RoleNegative || !slices.Equal(texts[3].Tokens, []int32{b, 'e', 'f'}) || texts[4].Role != RoleQuery {
		t.Errorf("texts %v, want six, the fourth a negative one", texts)
	}
	if want := []int32{b, 'a', 'b', b, 'c', b, 'd', b, 'e', 'f', b, 'g', b, 'h', 0, 0, 0, 0}; !slices.Equal(w.Tokens, want) {
		t.Errorf("tokens %v, want %v", w.Tokens, want)
	}
	if want := []int32{0, 0, 0, 1, 1, 2, 2, 3, 3, 3, 4, 4, 5, 5, 6, 6, 6, 6}; !slices.Equal(w.Doc, want) {
		t.Errorf("documents %v, want %v", w.Doc, want)
	}
	if want := []int32{0, 0, 1, 0, 2, 0, 3, 0, 0, 3, 0, 1, 0, 2, 0, 0, 0, 0}; !slices.Equal(w.Targets, want) {
		t.Errorf("roles %v, want %v", w.Targets, want)
	}
	if want := []float32{0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0}; !slices.Equal(w.LossMask, want) {
		t.Errorf("loss mask %v, want %v", w.LossMask, want)
	}
	if want := []int32{0, 1, 2, 0, 1, 0, 1, 0, 1, 2, 0, 1, 0, 1, 0, 1, 2, 3}; !slices.Equal(w.Pos, want) {
		t.Errorf("positions %v, want %v", w.Pos, want)
	}
}

func TestDataThatHasNoPairs(t *testing.T) {
	t.Parallel()
	for content, want := range map[string]string{
		`{"text":"a"}`:                                         `line 1: record has the fields "text", want "query" and "positive"`,
		`{"query":"a","positive":""}`:                          `line 1: "query" or "positive" is empty, want two texts`,
		`{"query":"a","positive":"b","negative":[1]}`:          `line 1: "negative" is not a list of texts`,
		`{"query":"a","positive":"b","neg":["c","d","e","f"]}`: `line 1: 6 texts, and 16 tokens for all of them`,
	} {
		if _, err := loadPairs(t, content, 16); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %s", content, err, want)
		}
	}
}
