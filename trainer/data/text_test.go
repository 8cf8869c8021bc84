package data

import (
	"os"
	"strings"
	"testing"

	"finetune/internal/need"
)

func TestEveryTokenOfATextIsPredictedOnce(t *testing.T) {
	text := strings.Repeat("a long way to go, é\n", 13)
	for _, tok := range []byteTokenizer{{addBOS: true}, {}} {
		for _, nCtx := range []int{1, 7, 64, 1000} {
			w := mustLoad(t, write(t, "a.txt", text), options{NCtx: nCtx, Tokenizer: tok}).Train
			checkPacking(t, w)
			var predicted []byte
			for i := range w.Len() {
				win := w.At(i)
				if first := win.Tokens[0]; (first == bosID) != tok.addBOS {
					t.Errorf("BOS %v, window %d begins with token %d", tok.addBOS, i, first)
				}
				for j := range win.Targets {
					if win.LossMask[j] == 1 {
						predicted = append(predicted, byte(win.Targets[j]))
					}
				}
			}
			want := text
			if !tok.addBOS {
				want = text[1:] // nothing stands before the first token
			}
			if string(predicted) != want {
				t.Errorf("BOS %v, n_ctx %d: predicted %.60q, want %.60q", tok.addBOS, nCtx, predicted, want)
			}
		}
	}
}

func TestNamesOfSpecialTokensInATextAreText(t *testing.T) {
	w := mustLoad(t, write(t, "a.txt", "x<|im_end|>"), options{NCtx: 20, Tokenizer: byteTokenizer{addBOS: true}}).Train
	if s := w.Stats(); s.TrainedTokens != len("x<|im_end|>") {
		t.Errorf("%d trained tokens, want one a byte", s.TrainedTokens)
	}
}

func TestTextIsSplitAtABorder(t *testing.T) {
	for _, c := range []struct {
		text     string
		fraction float64
		val      string
	}{
		{"one\ntwo\nthree\nfour\n", 0.1, "four\n"},
		{"one\ntwo\nthree\nfour\n", 0.5, "three\nfour\n"},
		{"one two three four", 0.3, "three four"},
		{"abcdefghij", 0.2, "ij"},
		{"ééééé", 0.4, "éé"},
		{strings.Repeat("é", 2000), 0.25, strings.Repeat("é", 500)},
		{"abc", 0, ""},
	} {
		b := &builder{options: options{ValFraction: c.fraction}}
		at, size, err := b.splitText(write(t, "a.txt", c.text))
		if want := len(c.text) - len(c.val); err != nil || at != int64(want) || size != int64(len(c.text)) {
			t.Errorf("splitText(%.30q, %g) = %d of %d, %v, want %d", c.text, c.fraction, at, size, err, want)
		}
	}
}

func TestLastTenthOfARealTextIsHeldOut(t *testing.T) {
	need.Each(t, []string{"trainer/testdata/reference.txt"}, []string{"text/tinyshakespeare.txt"}, func(t *testing.T, path string) {
		info, err := os.Stat(path)
		if err != nil {
			t.Fatal(err)
		}
		set := mustLoad(t, path, options{NCtx: 128, Tokenizer: byteTokenizer{addBOS: true}, ValFraction: 0.1})
		size, longest := int(info.Size()), 700 // bytes, of the text and of its longest line
		train, val := set.Train.Stats().TrainedTokens, set.Val.Stats().TrainedTokens
		if train+val != size || val < size/10 || val > size/10+longest {
			t.Errorf("%d tokens trained and %d held out, want all %d and a tenth of them", train, val, size)
		}
	})
}
