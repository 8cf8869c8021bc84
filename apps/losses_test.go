package apps

import (
	"io"
	"math"
	"path/filepath"
	"slices"
	"testing"

	"finetune/gguf"
	"finetune/internal/near"
	"finetune/model/native"
	"finetune/quant"
	"finetune/trainer/data"

	"github.com/go-skynet/go-llama.cpp/llama"
)

// Of a quantized weight's product llama.cpp rounds the other factor to eight bits. Sums added up in another order round
// elsewhere, and layer by layer that grows: over SmolLM2 and Gemma 3 a cache in F32, flash attention, or repacked weights
// move the loss of a single token by 0.05 to 0.15 nats (root of the mean of squares), and the mean of 64 by up to 0.025. So a
// quantized base cannot say more than that. The same weights in F32 are not rounded, and there all of these settings are
// within 0.0005 in the mean and 0.002 a token. Hence two comparisons of each app, whose settings are not ours: node-llama-cpp
// has flash attention on, and both repack; docs/learning.md has the figures. An app that takes the adapter at 0.99 of its scale is
// off by 0.0007 and 0.010 in F32.
const (
	exactMean = 0.001 // nats a token, over a base in F32
	exactEach = 0.005 // likewise, the root of the mean square of the tokens' differences

	// roundedEach is how many times as far as our own settings are from each other an app may be from us, over a quantized base.
	roundedEach = 2
	// roundedMean is by how many standard errors of such differences the mean may be off.
	roundedMean = 3
)

// compareExact holds the losses of tokens over a base in F32 against ours.
func compareExact(t *testing.T, run string, got, want []float64) {
	t.Helper()
	d := differences(t, run, got, want)
	t.Logf("%s in F32: loss %.5f, ours %.5f, tokens differ by %.5f", run, mean(got), mean(want), rms(d))
	if !near.Enough(mean(d), 0.0, exactMean) || !near.Enough(rms(d), 0.0, exactEach) {
		t.Errorf("%s in F32: loss %.5f, ours %.5f, want a difference of %g; tokens differ by %.5f, want %g", run, mean(got), mean(want),
			exactMean, rms(d), exactEach)
	}
}

// compareRounded holds the losses of tokens over a quantized base against ours, where noise is what ours are by other settings.
func compareRounded(t *testing.T, run string, got, want, noise []float64) {
	t.Helper()
	d, own := differences(t, run, got, want), rms(differences(t, run, noise, want))
	tolerance := roundedMean * own / math.Sqrt(float64(len(want)))
	t.Logf("%s: loss %.4f, ours %.4f and by other settings %.4f; tokens differ by %.4f, by our settings by %.4f", run, mean(got), mean(want),
		mean(noise), rms(d), own)
	if !near.Enough(mean(d), 0.0, tolerance) || !near.Enough(rms(d), 0.0, roundedEach*own) {
		t.Errorf("%s: loss %.4f, ours %.4f, want a difference of %.4f; tokens differ by %.4f, want %.4f", run, mean(got), mean(want),
			tolerance, rms(d), roundedEach*own)
	}
}

// differences are those of the tokens of one text.
func differences(t *testing.T, run string, got, want []float64) []float64 {
	t.Helper()
	if len(got) != len(want) || len(want) == 0 {
		t.Fatalf("%s: losses of %d tokens, want %d", run, len(got), len(want))
	}
	d := make([]float64, len(want))
	for i := range d {
		d[i] = got[i] - want[i]
	}
	return d
}

func mean(x []float64) (sum float64) {
	for _, v := range x {
		sum += v / float64(len(x))
	}
	return sum
}

func rms(x []float64) float64 {
	sum := 0.0
	for _, v := range x {
		sum += v * v / float64(len(x))
	}
	return math.Sqrt(sum)
}

// settingsTolerance is what a loss by the settings of finetune eval may be off from that of finetune eval itself: nothing but the
// order in which the tokens' losses are added.
const settingsTolerance = 1e-5

// oursLosses are the losses of the text's tokens by run, as finetune eval has them.
func oursLosses(t *testing.T, r request) map[string][]float64 {
	t.Helper()
	m, err := native.Open(r.Model)
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	losses := map[string][]float64{}
	for _, run := range r.Runs {
		losses[run.Name] = tokenLosses(t, m, r, run, llama.ContextParams{FlashAttn: llama.FlashAttnOff})
		if got, want := evalLoss(t, m, r, run), mean(losses[run.Name]); !near.Enough(got, want, settingsTolerance) {
			t.Errorf("%s: finetune eval has the loss %.6f, token by token it is %.6f", run.Name, got, want)
		}
	}
	return losses
}

// oursOtherwise are they by the settings that apps have.
func oursOtherwise(t *testing.T, r request) map[string][]float64 {
	t.Helper()
	m, err := llama.LoadModel(r.Model, llama.ModelParams{RepackWeights: true})
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	losses := map[string][]float64{}
	for _, run := range r.Runs {
		losses[run.Name] = tokenLosses(t, m, r, run, llama.ContextParams{FlashAttn: llama.FlashAttnOn})
	}
	return losses
}

// tokenLosses are the losses of the text's tokens but the first.
func tokenLosses(t *testing.T, m *llama.Model, r request, run asked, p llama.ContextParams) (losses []float64) {
	t.Helper()
	tokens := textTokens(t, m, r)
	batch := llama.Batch{Tokens: tokens[:len(tokens)-1]}
	for range batch.Tokens {
		batch.Output = append(batch.Output, true)
	}
	inContext(t, m, r, run, p, func(c *llama.Context) {
		if err := c.Decode(batch); err != nil {
			t.Fatal(err)
		}
		for i, next := range tokens[1:] {
			losses = append(losses, lossOf(c.Logits(i), next))
		}
	})
	return losses
}

// lossOf is −log softmax(logits)[token].
func lossOf(logits []float32, token int32) float64 {
	top, sum := float64(slices.Max(logits)), 0.0
	for _, x := range logits {
		sum += math.Exp(float64(x) - top)
	}
	return top + math.Log(sum) - float64(logits[token])
}

func textTokens(t *testing.T, m *llama.Model, r request) []int32 {
	t.Helper()
	tokens, err := m.Vocab().Tokenize(r.Text, true, true)
	if err != nil {
		t.Fatal(err)
	}
	return tokens
}

// evalLoss is the loss of the text by finetune eval.
func evalLoss(t *testing.T, m *llama.Model, r request, run asked) float64 {
	t.Helper()
	tokens := textTokens(t, m, r)
	w := data.Blank(r.Context)
	for i := range len(tokens) - 1 {
		w.Tokens[i], w.Targets[i], w.Pos[i], w.LossMask[i] = tokens[i], tokens[i+1], int32(i), 1
	}
	for i := len(tokens) - 1; i < r.Context; i++ {
		w.Pos[i], w.Doc[i] = int32(i-len(tokens)+1), 1
	}
	e, closeIt := evaluator(t, m, r, run)
	defer closeIt()
	loss, err := e.Loss(t.Context(), []data.Window{w}, nil)
	if err != nil {
		t.Fatal(err)
	}
	return float64(loss)
}

// inFloat32 writes a base again with every tensor in F32.
func inFloat32(t *testing.T, base string) string {
	t.Helper()
	f, err := gguf.Open(base)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	b := gguf.NewBuilder()
	b.SetAll(f.KVs())
	for _, tensor := range f.Tensors() {
		b.AddTensorFunc(tensor.Name, gguf.TypeF32, tensor.Shape, func(w io.Writer) error {
			coded, err := f.Data(tensor.Name)
			if err != nil {
				return err
			}
			values := make([]float32, tensor.Elements())
			if err := quant.Decode(tensor.Type, coded, values); err != nil {
				return err
			}
			if coded, err = quant.Encode(gguf.TypeF32, values, int(tensor.Shape[0]), nil); err != nil {
				return err
			}
			_, err = w.Write(coded)
			return err
		})
	}
	out := filepath.Join(t.TempDir(), "float32.gguf")
	if err := b.WriteFile(out); err != nil {
		t.Fatal(err)
	}
	return out
}
