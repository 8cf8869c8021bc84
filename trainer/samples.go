package trainer

import (
	"context"
	"fmt"
	"math"
	"slices"
	"strings"
	"sync"

	"finetune/gguf"
	"finetune/internal/hint"
	"finetune/quant"
	"finetune/trainer/data"

	"github.com/go-skynet/go-llama.cpp/llama"
)

// Sample is an answer to a prompt of the data.
type Sample struct {
	Prompt string `json:"prompt"`
	Wanted string `json:"wanted"`         // what the data has behind it, cut as an answer is
	Base   string `json:"base,omitempty"` // the base's answer, where this part of the run has asked it; not of the base's own
	Text   string `json:"text"`           // the answer
}

// The lengths of samples in tokens. Each token of an answer takes a pass through the graph, which has no cache of keys and
// values: it is the one that trains, with the parameters as they are.
const (
	answerTokens = 32
	promptTokens = 16 // of plain texts, which have no prompts
)

// sampling is what is asked, and how the answers are found: the likeliest token each time.
type sampling struct {
	vocab   *llama.Vocab
	prompts [][]int32
	asked   []Sample // prompts, and the answers of the base once they are there
	output  output
	step    int // of the last answers, -1 = none
}

// newSampling chooses the first documents that are held out, or of the training data where nothing is; nil without n.
func (l *loop) newSampling(n int) (*sampling, error) {
	if n == 0 {
		return nil, nil
	}
	s := &sampling{vocab: l.model.Vocab(), step: -1}
	var err error
	if s.output, err = l.newOutput(); err != nil {
		return nil, err
	}
	from := l.val
	if from == nil {
		from = l.train
	}
	for i := 0; i < from.Len() && len(s.prompts) < n; i++ {
		for _, doc := range from.At(i).Documents() {
			if len(s.prompts) < n {
				s.add(doc)
			}
		}
	}
	return s, nil
}

// add takes a document as a prompt and what is wanted behind it.
func (s *sampling) add(doc data.Window) {
	first := 0
	for doc.LossMask[first] == 0 {
		first++
	}
	at := first + 1
	if first == 0 {
		at = min(promptTokens, (len(doc.Tokens)+1)/2)
	}
	prompt := doc.Tokens[:at:at]
	var wanted []int32
	for i := at - 1; i < len(doc.Targets) && len(wanted) < answerTokens && doc.LossMask[i] != 0 && !s.vocab.IsEOG(doc.Targets[i]); i++ {
		wanted = append(wanted, doc.Targets[i])
	}
	s.prompts = append(s.prompts, prompt)
	s.asked = append(s.asked, Sample{Prompt: s.text(prompt, true), Wanted: s.text(wanted, false)})
}

// text returns tokens as text; control tokens only by their names, if at all.
func (s *sampling) text(ids []int32, control bool) string {
	var b strings.Builder
	for _, id := range ids {
		b.WriteString(s.vocab.Piece(id, control))
	}
	return strings.ToValidUTF8(b.String(), "\uFFFD")
}

// again has the next answers told although there are some of this step: the parameters are others.
func (s *sampling) again() {
	if s != nil {
		s.step = -1
	}
}

// sample answers the prompts with the parameters as they are, and tells the answers, once for each step.
func (l *loop) sample(ctx context.Context) error {
	s := l.samples
	if s == nil || s.step == l.step {
		return nil
	}
	var answers []Sample
	seqs, tell := l.engine.Shape().Seqs, l.measuring("samples")
	for len(answers) < len(s.prompts) {
		from := len(answers)
		texts, err := l.answer(ctx, s.prompts[from:min(from+seqs, len(s.prompts))], func(tokens int) {
			tell(from/seqs*answerTokens+tokens, (len(s.prompts)+seqs-1)/seqs*answerTokens)
		})
		if err != nil {
			return err
		}
		for i, text := range texts {
			a := s.asked[from+i]
			a.Text = text
			answers = append(answers, a)
		}
	}
	s.step = l.step
	if l.step == 0 {
		for i, a := range answers {
			s.asked[i].Base = a.Text
		}
	}
	return l.tell(Event{Kind: "samples", Step: l.step, Samples: answers})
}

// answer continues as many prompts as the graph has sequences, or fewer. tell gets the tokens that each has, again and again.
func (l *loop) answer(ctx context.Context, prompts [][]int32, tell func(tokens int)) ([]string, error) {
	nCtx, seqs, s := l.engine.Shape().Ctx, l.engine.Shape().Seqs, l.samples
	all := make([][]int32, len(prompts))
	over := make([]bool, len(prompts))
	for i, p := range prompts {
		all[i] = append([]int32{}, p...)
	}
	for n := range answerTokens {
		tell(n)
		var windows []data.Window
		var rows []int
		var who []int
		for i, tokens := range all {
			windows = append(windows, data.Reading(tokens, nCtx))
			if !over[i] {
				rows, who = append(rows, i*nCtx+len(tokens)-1), append(who, i)
			}
		}
		if len(who) == 0 {
			break
		}
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		var next []int32
		err := l.valTuner.Do(seqs, func(threads int) (err error) {
			l.engine.SetThreads(threads)
			hidden, err := l.engine.Hidden(data.Fill(windows, seqs))
			if err == nil {
				next, err = s.output.likeliest(hidden, rows, threads)
			}
			return err
		})
		if err != nil {
			return nil, err
		}
		for k, i := range who {
			if s.vocab.IsEOG(next[k]) {
				over[i] = true
				continue
			}
			all[i] = append(all[i], next[k])
			over[i] = len(all[i]) == nCtx
		}
	}
	var texts []string
	for i, p := range prompts {
		texts = append(texts, s.text(all[i][len(p):], false))
	}
	return texts, nil
}

// output is the matrix behind the hidden state, [n_embd, V], and its bias [V] if it has one. What llama.cpp does to logits behind
// it, a scale or a soft cap, does not change which is the largest.
type output struct {
	tensor gguf.Tensor
	rows   func(from, to int, dst []float32) error // decodes rows
	bias   []float32
}

// newOutput finds the output matrix: of the base, or its master where that is trained. An adapter on it is refused.
func (l *loop) newOutput() (o output, err error) {
	var ok bool
	if o.tensor, ok = l.base.Tensor("output.weight"); !ok {
		if o.tensor, ok = l.base.Tensor("token_embd.weight"); !ok {
			return o, fmt.Errorf("trainer: model %q has no output matrix", l.base.Path())
		}
	}
	if a, ok := l.trainable.(*adapterTrainable); ok {
		for _, w := range a.Weights {
			if w.Name == o.tensor.Name {
				return o, hint.With(fmt.Errorf("trainer: samples: tensor %q, the output matrix, is adapted", w.Name), "leave --samples out, or choose other --targets")
			}
		}
	}
	masters := map[string][]float32{}
	if f, ok := l.trainable.(*fullTrainable); ok {
		for _, m := range f.masters {
			masters[m.Name] = m.Data
		}
	}
	o.rows = l.rowsOf(o.tensor, masters[o.tensor.Name])
	if t, ok := l.base.Tensor("output.bias"); ok {
		if o.bias = masters[t.Name]; o.bias == nil {
			o.bias = make([]float32, t.Shape[0])
			whole := gguf.Tensor{Name: t.Name, Type: t.Type, Shape: []int64{t.Shape[0], 1}}
			err = l.rowsOf(whole, nil)(0, 1, o.bias)
		}
	}
	return o, err
}

// rowsOf returns what decodes rows of a tensor of the base, or copies them from its master.
func (l *loop) rowsOf(t gguf.Tensor, master []float32) func(from, to int, dst []float32) error {
	n := int(t.Shape[0])
	return func(from, to int, dst []float32) error {
		if master != nil {
			copy(dst, master[from*n:to*n])
			return nil
		}
		row := t.Bytes() / t.Shape[1]
		raw, err := l.base.Part(t.Name, int64(from)*row, int64(to)*row)
		if err != nil {
			return err
		}
		return quant.Decode(t.Type, raw, dst)
	}
}

// likeliest returns, for rows of the hidden states, the tokens with the largest logits; of equals the first.
func (o output) likeliest(hidden []float32, rows []int, threads int) ([]int32, error) {
	const together = 256 // rows of the matrix
	n, vocab := int(o.tensor.Shape[0]), int(o.tensor.Shape[1])
	type found struct {
		id   []int32
		most []float32
		err  error
	}
	parts := make([]found, threads)
	var wg sync.WaitGroup
	for p := range parts {
		wg.Go(func() {
			f := found{make([]int32, len(rows)), slices.Repeat([]float32{float32(math.Inf(-1))}, len(rows)), nil}
			weights := make([]float32, together*n)
			begin, end := vocab*p/threads, vocab*(p+1)/threads
			for from := begin; from < end && f.err == nil; from += together {
				to := min(from+together, end)
				f.err = o.rows(from, to, weights[:(to-from)*n])
				for id := from; id < to && f.err == nil; id++ {
					w := weights[(id-from)*n : (id-from+1)*n]
					for k, row := range rows {
						logit := dot(w, hidden[row*n:(row+1)*n])
						if o.bias != nil {
							logit += o.bias[id]
						}
						if logit > f.most[k] {
							f.id[k], f.most[k] = int32(id), logit
						}
					}
				}
			}
			parts[p] = f
		})
	}
	wg.Wait()
	best := parts[0]
	for p, f := range parts {
		if f.err != nil {
			return nil, f.err
		}
		for k := range rows {
			if p > 0 && f.most[k] > best.most[k] {
				best.id[k], best.most[k] = f.id[k], f.most[k]
			}
		}
	}
	return best.id, nil
}

func dot(a, b []float32) float32 {
	var s0, s1, s2, s3 float32
	b = b[:len(a)]
	i := 0
	for ; i+4 <= len(a); i += 4 {
		s0 += a[i] * b[i]
		s1 += a[i+1] * b[i+1]
		s2 += a[i+2] * b[i+2]
		s3 += a[i+3] * b[i+3]
	}
	for ; i < len(a); i++ {
		s0 += a[i] * b[i]
	}
	return s0 + s1 + (s2 + s3)
}
