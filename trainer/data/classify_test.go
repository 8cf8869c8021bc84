package data

import (
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
)

// ofClasses loads text as a file of a classification.
func ofClasses(t *testing.T, name, content string, o options) (*dataset, error) {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, []byte(content), 0o666); err != nil {
		t.Fatal(err)
	}
	o.Tokenizer = byteTokenizer{addBOS: true}
	if o.NCtx == 0 {
		o.NCtx = 64
	}
	if o.Classes == nil {
		o.Classes = new(labels)
	}
	return loadFile(path, o)
}

// documents returns texts and labels of all documents, in the order of the alphabet.
func documents(set *dataset) (all []string) {
	for _, w := range set.Train.All() {
		for _, d := range w.Documents() {
			var text strings.Builder
			for _, id := range d.Tokens {
				text.WriteString(byteTokenizer{}.Piece(id, true))
			}
			all = append(all, text.String()+" → "+set.Train.Classes()[d.Targets[len(d.Targets)-1]])
		}
	}
	slices.Sort(all)
	return all
}

func TestClassifiedRecordsOfEachForm(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name, file, content, field string
		classes, want              []string
	}{
		{"JSON lines", "a.jsonl", `{"text":"good","label":"yes"}` + "\n" + `{"text":"bad","label":"no"}`, "",
			[]string{"no", "yes"}, []string{"<s>bad → no", "<s>good → yes"}},
		{"numbers in their order", "a.jsonl", `{"text":"a","label":10}` + "\n" + `{"text":"b","label":9}`, "", []string{"9", "10"}, []string{"<s>a → 10", "<s>b → 9"}},
		{"true and false", "a.jsonl", `{"question":"q","passage":"p","label":true}` + "\n" + `{"question":"r","passage":"s","label":false}`, "",
			[]string{"false", "true"}, []string{"<s>q\np → true", "<s>r\ns → false"}},
		{"GLUE's pairs in a table", "mrpc.tsv", "sentence1\tsentence2\tlabel\na\tb\t1\nc\td\t0\n", "", []string{"0", "1"}, []string{"<s>a\nb → 1", "<s>c\nd → 0"}},
		{"a field by name", "a.csv", "text,mood,label\na,good,3\nb,bad,3\n", "mood", []string{"bad", "good"}, []string{"<s>a → good", "<s>b → bad"}},
		{"CoLA, without a header", "cola.tsv", "gj04\t1\t\tThe cat sleeps.\ngj04\t0\t*\tCat the sleeps.\n", "2",
			[]string{"0", "1"}, []string{"<s>Cat the sleeps. → 0", "<s>The cat sleeps. → 1"}},
	} {
		set, err := ofClasses(t, c.file, c.content, options{Classes: &labels{field: c.field}})
		if err != nil {
			t.Errorf("%s: %v", c.name, err)
			continue
		}
		if !reflect.DeepEqual(set.Train.Classes(), c.classes) || !reflect.DeepEqual(documents(set), c.want) {
			t.Errorf("%s: classes %q, %q, want %q, %q", c.name, set.Train.Classes(), documents(set), c.classes, c.want)
		}
	}
}

func TestAClassIsTheTargetOfTheLastToken(t *testing.T) {
	t.Parallel()
	set, err := ofClasses(t, "a.jsonl", `{"text":"abc","label":"x"}`+"\n"+`{"text":"d","label":"y"}`, options{NCtx: 8})
	if err != nil {
		t.Fatal(err)
	}
	w := set.Train.At(0)
	if want := []int32{bosID, 'a', 'b', 'c', bosID, 'd', 0, 0}; !slices.Equal(w.Tokens, want) {
		t.Errorf("tokens %v, want %v", w.Tokens, want)
	}
	if want := []float32{0, 0, 0, 1, 0, 1, 0, 0}; !slices.Equal(w.LossMask, want) || w.Targets[3] != 0 || w.Targets[5] != 1 {
		t.Errorf("mask %v, targets %v, want %v, and the classes 0 and 1 behind the last tokens", w.LossMask, w.Targets, want)
	}
}

func TestDataThatIsNoClassification(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ name, file, content, field, want string }{
		{"no label", "a.jsonl", `{"text":"a","mark":1}`, "", `a.jsonl" line 1: record has no field for a label, but "mark", "text"`},
		{"no such field", "a.jsonl", `{"text":"a","label":1}`, "class", `a.jsonl" line 1: record has no field "class" for its label, but "label", "text"`},
		{"an empty label", "a.jsonl", `{"text":"a","label":" "}`, "", `a.jsonl" line 1: "label" is empty, want the label of a class`},
		{"one class", "a.jsonl", `{"text":"a","label":1}` + "\n" + `{"text":"b","label":1}`, "", `a.jsonl": every record has the label "1", want at least two classes`},
		{"no text", "a.jsonl", `{"body":"a","label":1}`, "", `a.jsonl" line 1: record has the fields "body", "label", want "text", or "text" and "text_pair", beside the label`},
		{"a pair, then none", "a.jsonl", `{"text":"a","text_pair":"b","label":1}` + "\n" + `{"text":"a","label":2}`, "",
			`a.jsonl" line 2: record has "label" and "text", but that in`},
		{"a plain text", "a.txt", "Once upon a time", "", `a.txt": is a plain text, want records with a label for a classification`},
	} {
		_, err := ofClasses(t, c.file, c.content, options{Classes: &labels{field: c.field}})
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %s", c.name, err, c.want)
		}
	}
	_, err := ofClasses(t, "val.jsonl", `{"text":"a","label":"z"}`, options{Classes: &labels{names: []string{"x", "y"}}})
	if want := `label "z" is none of the training data's: "x", "y"`; err == nil || !strings.Contains(err.Error(), want) {
		t.Errorf("a label that training lacks: %v, want %s", err, want)
	}
}

// A vocabulary that puts tokens behind a text, as [SEP], has them behind both of a pair, and a text that is cut keeps them.
func TestTokensOfPairsAndOfLongTexts(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		text, pair string
		most       int
		want       string
		cut        bool
	}{
		{"ab", "", 0, "<ab>", false},
		{"ab", "cd", 0, "<ab>cd>", false},
		{"abcdef", "", 5, "<abc>", true},
		{"abcdef", "xy", 8, "<abc>xy>", true},
		{"ab", "uvwxyz", 7, "<ab>uv>", true},
		{"abcd", "wxyz", 7, "<ab>wx>", true},
		{"ab", "", 2, "<>", true},
	} {
		ids, cut, err := TextTokens(bracketing{}, c.text, c.pair, c.most)
		got := ""
		for _, id := range ids {
			got += string(rune(id))
		}
		if err != nil || got != c.want || cut != c.cut {
			t.Errorf("%q and %q in %d: %q, cut %v, %v, want %q, cut %v", c.text, c.pair, c.most, got, cut, err, c.want, c.cut)
		}
	}
}

// bracketing is a vocabulary of letters that puts < before and > behind a text.
type bracketing struct{}

func (bracketing) Tokenize(text string, addSpecial, _ bool) (ids []int32, err error) {
	if addSpecial {
		text = "<" + text + ">"
	}
	for _, c := range text {
		ids = append(ids, c)
	}
	return ids, nil
}
