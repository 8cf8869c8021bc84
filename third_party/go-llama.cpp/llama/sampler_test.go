package llama_test

import (
	"math"
	"testing"

	"github.com/go-skynet/go-llama.cpp/llama"
)

func newSampler(t testing.TB, v *llama.Vocab, p llama.SamplerParams) *llama.Sampler {
	t.Helper()
	s, err := llama.NewSampler(v, p)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { closeOrFail(t, s) })
	return s
}

// ramp are logits [1536] that rise with the token id.
func ramp() []float32 {
	x := make([]float32, 1536)
	for i := range x {
		x[i] = float32(i) / 100
	}
	return x
}

func choose(t testing.TB, s *llama.Sampler, logits []float32) int32 {
	t.Helper()
	id, err := s.Choose(logits)
	if err != nil {
		t.Fatal(err)
	}
	return id
}

func TestSamplerParts(t *testing.T) {
	v := small(t).Vocab()
	inf := float32(math.Inf(1))
	for _, tt := range []struct {
		name     string
		p        llama.SamplerParams
		low, top int32 // the tokens that may come
	}{
		{"greedy", llama.SamplerParams{}, 1535, 1535},
		{"negative temperature is greedy", llama.SamplerParams{Temp: -1}, 1535, 1535},
		{"top-k", llama.SamplerParams{Temp: 5, TopK: 4}, 1532, 1535},
		{"top-p", llama.SamplerParams{Temp: 5, TopP: 0.02}, 1532, 1535},
		{"min-p", llama.SamplerParams{Temp: 5, MinP: 0.97}, 1532, 1535},
		{"bias", llama.SamplerParams{LogitBias: map[int32]float32{7: 100}}, 7, 7},
		{"forbidden", llama.SamplerParams{LogitBias: map[int32]float32{1535: -inf, 1534: -inf}}, 1533, 1533},
		{"grammar", llama.SamplerParams{Temp: 5, Grammar: `root ::= "z"`}, 0, 1535},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := newSampler(t, v, tt.p)
			for range 50 {
				if id := choose(t, s, ramp()); id < tt.low || id > tt.top {
					t.Fatalf("chose %d, want %d to %d", id, tt.low, tt.top)
				}
			}
		})
	}
}

func TestSamplerGrammarAllowsOnlyWhatFits(t *testing.T) {
	v := small(t).Vocab()
	s := newSampler(t, v, llama.SamplerParams{Temp: 2, Grammar: `root ::= "z"`})
	id := choose(t, s, ramp())
	if got := v.Piece(id, false); got != "z" {
		t.Fatalf("chose %q, want z", got)
	}
	if err := s.Accept(id); err != nil {
		t.Fatal(err)
	}
	if end := choose(t, s, ramp()); !v.IsEOG(end) {
		t.Errorf("after the grammar's end chose %d, want the end of the text", end)
	}
	if err := newSampler(t, v, llama.SamplerParams{Grammar: `root ::= "z"`}).Accept(300); err == nil {
		t.Error("Accept of a token against the grammar = nil, want an error")
	}
}

func TestSamplerPenaltiesRememberWhatWasSeen(t *testing.T) {
	v := small(t).Vocab()
	s := newSampler(t, v, llama.SamplerParams{PenaltyLast: 2, PenaltyPresent: 100})
	if err := s.Seen(1535); err != nil {
		t.Fatal(err)
	}
	for _, want := range []int32{1534, 1533, 1535, 1534} { // two tokens back are forbidden
		id := choose(t, s, ramp())
		if id != want {
			t.Fatalf("chose %d, want %d", id, want)
		}
		if err := s.Accept(id); err != nil {
			t.Fatal(err)
		}
	}
}

func TestSamplerRefusesWhatDoesNotFit(t *testing.T) {
	v := small(t).Vocab()
	if s, err := llama.NewSampler(v, llama.SamplerParams{LogitBias: map[int32]float32{1536: 1}}); err == nil {
		s.Close()
		t.Error("a bias outside of the vocabulary was accepted")
	}
	s := newSampler(t, v, llama.SamplerParams{})
	if _, err := s.Choose(make([]float32, 3)); err == nil {
		t.Error("Choose among 3 logits = nil, want an error")
	}
	if err := s.Accept(1536); err == nil {
		t.Error("Accept(1536) = nil, want an error")
	}
	c := newContext(t, small(t), llama.ContextParams{})
	if _, err := s.Sample(c, 0); err == nil {
		t.Error("Sample before a Decode = nil, want an error")
	}
}
