package data

import (
	"slices"
	"strings"
	"testing"

	"finetune/run"
)

// ofWeights loads four records of three classes with weights, and returns the loss masks of their documents by the first letter.
func ofWeights(t *testing.T, weights string) (map[byte]float32, error) {
	t.Helper()
	set, err := ofClasses(t, "a.jsonl", `{"text":"a","label":"x"}`+"\n"+`{"text":"b","label":"x"}`+"\n"+`{"text":"c","label":"x"}`+"\n"+
		`{"text":"d","label":"y=z"}`+"\n"+`{"text":"e","label":"p, q"}`+"\n"+`{"text":"f","label":"p, q"}`, options{NCtx: 8})
	if err != nil {
		t.Fatal(err)
	}
	if err := weigh(run.Config{ClassWeights: weights}, set.Train, nil); err != nil {
		return nil, err
	}
	masks := map[byte]float32{}
	for _, w := range set.Train.All() {
		for _, d := range w.Documents() {
			n := len(d.Tokens) - 1
			masks[byte(d.Tokens[n])] = d.LossMask[n]
		}
	}
	return masks, nil
}

func TestWeightsOfClasses(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		weights string
		want    []float32 // of a to f
	}{
		{"", []float32{1, 1, 1, 1, 1, 1}},
		{"balanced", []float32{2. / 3, 2. / 3, 2. / 3, 2, 1, 1}}, // 6/(3·3), 6/(3·1), 6/(3·2)
		{"x=0.5", []float32{0.5, 0.5, 0.5, 1, 1, 1}},
		{`y=z=4,"p, q=1e2"`, []float32{1, 1, 1, 4, 100, 100}},
	} {
		masks, err := ofWeights(t, c.weights)
		var got []float32
		for _, letter := range []byte("abcdef") {
			got = append(got, masks[letter])
		}
		if err != nil || !slices.Equal(got, c.want) {
			t.Errorf("%s: %v, %v, want %v", c.weights, got, err, c.want)
		}
	}
	for weights, want := range map[string]string{
		"w=2":     `class-weights: label "w" is none of the training data's: "p, q", "x", "y=z"`,
		"x=2,x=3": `class-weights: label "x" has two weights`,
	} {
		if _, err := ofWeights(t, weights); err == nil || !strings.HasSuffix(err.Error(), want) {
			t.Errorf("%s: %v, want %s", weights, err, want)
		}
	}
}
