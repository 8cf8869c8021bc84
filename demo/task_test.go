package demo

import (
	"bytes"
	"encoding/json"
	"slices"
	"testing"
)

func TestInForm(t *testing.T) {
	for answer, want := range map[string]bool{
		`{"who": "Tom", "count": 3, "what": "cats"}`:            true,
		` {"count":3,"who":"Tom","what":"cats"} `:               true,
		`{"who": "Tom", "count": 3}`:                            false,
		`{"who": "Tom", "count": "3", "what": "cats"}`:          false,
		`{"who": "Tom", "count": 3, "what": "cats", "why": ""}`: false,
		`{"who": "Tom", "count": 3, "what": "cats"} or so`:      false,
		`Tom has 3 cats`: false,
		``:               false,
	} {
		if _, ok := inForm(answer); ok != want {
			t.Errorf("inForm(%q) = %v, want %v", answer, ok, want)
		}
	}
}

// TestHeldOutIsHeldOut: names are asked with things that they are never with in what is learned, where each of them is, and so no
// sentence that is asked is learned. What is written as data reads as what was meant.
func TestHeldOutIsHeldOut(t *testing.T) {
	for _, tt := range []struct {
		name     string
		make     func() (train, asked []example)
		train, n int
	}{{"embedded base", fewSentences, 396, 12}, {"chat model", manySentences, 300, 20}} {
		train, asked := tt.make()
		if len(train) != tt.train || len(asked) != tt.n {
			t.Errorf("%s: %d sentences learned, %d asked, want %d and %d", tt.name, len(train), len(asked), tt.train, tt.n)
		}
		pairs, words := map[[2]string]bool{}, map[string]bool{}
		for _, x := range train {
			pairs[[2]string{x.want.Who, x.want.What}], words[x.want.Who], words[x.want.What] = true, true, true
		}
		for _, x := range asked {
			if pairs[[2]string{x.want.Who, x.want.What}] || !words[x.want.Who] || !words[x.want.What] {
				t.Errorf("%s: %q: want a name and a thing of what is learned, and not this name with this thing", tt.name, x.sentence)
			}
		}
		lines := slices.Collect(bytes.Lines(records(train)))
		for i, x := range train {
			var r struct {
				Messages []struct{ Role, Content string }
			}
			if err := json.Unmarshal(lines[i], &r); err != nil || len(r.Messages) != 2 || r.Messages[0].Content != x.sentence {
				t.Fatalf("%s: %q: %v, want the sentence %q", tt.name, lines[i], err, x.sentence)
			}
			if got, ok := inForm(r.Messages[1].Content); !ok || got != x.want {
				t.Errorf("%s: %q is read as %+v, %v, want %+v", tt.name, lines[i], got, ok, x.want)
			}
		}
	}
}

// TestQuestionsAreHeldOut: neither a question nor the word of its answer is in the chats.
func TestQuestionsAreHeldOut(t *testing.T) {
	for _, q := range questions {
		if bytes.Contains(chats, []byte(q.text)) || hasWord(string(chats), q.word) {
			t.Errorf("%q or its answer %q is in the chats", q.text, q.word)
		}
	}
}

func TestKept(t *testing.T) {
	q := question{"What is the capital of France?", "Paris"}
	for _, tt := range []struct {
		before, after string
		want          bool
	}{
		{"It is Paris.", "The capital is Paris.", true},
		{"It is Paris.", "paris", true},
		{"I do not know.", "Lyon, perhaps.", true},
		{"It is Paris.", "It is Lyon.", false},
		{"It is Paris.", "The Parisians know.", false},
		{"It is Paris.", `{"who": "Paris", "count": 1, "what": "capital"}`, false},
		{"It is Paris.", "", false},
	} {
		if got := q.kept(tt.before, tt.after); got != tt.want {
			t.Errorf("kept(%q, %q) = %v, want %v", tt.before, tt.after, got, tt.want)
		}
	}
}
