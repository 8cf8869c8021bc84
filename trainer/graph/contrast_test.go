package graph

import (
	"fmt"
	"math"
	"testing"

	"finetune/adapter"
	"finetune/classify"
	"finetune/internal/near"
	"finetune/internal/testmodel"
	"finetune/trainer/data"
)

// paired makes windows of three texts each, a query, what belongs to it and what does not, and some padding.
func paired(shape Shape, vocab int) []data.Window {
	ws := windows(shape, vocab)
	third := (shape.Ctx - 1) / 3
	for s := range ws {
		w := &ws[s]
		clear(w.LossMask)
		for i := range w.Doc {
			doc := min(i/third, 3)
			w.Doc[i], w.Pos[i], w.Targets[i] = int32(doc), int32(i-doc*third), 0
			if (i+1)%third == 0 && doc < 3 {
				w.Targets[i] = int32(doc) + int32(data.RoleQuery)
			}
		}
		w.LossMask[third-1] = 1
	}
	return ws
}

func TestGradientsOfAContrast(t *testing.T) {
	for _, v := range testmodel.Encoders()[:2] {
		for _, pooling := range []classify.Pooling{classify.PoolFirst, classify.PoolMean, classify.PoolLast} {
			t.Run(fmt.Sprintf("%s pooling %v", v.Name, pooling), func(t *testing.T) {
				path := writeVariant(t, v)
				m := loadModel(t, path)
				weights := allLinear(t, path, adapter.MethodLoRA, 4)
				disturb(weights)
				shape := Shape{Ctx: 16, Seqs: 3}
				ws := paired(shape, m.Vocab().NTokens())
				e := newEngine(t, m, weights, Options{Shape: shape, Threads: 1, Contrast: &Contrast{Temperature: 0.2, Dims: []int{16, 64}, Pooling: pooling}})
				makeSmooth(t, tableNodes(e))
				checkDirections(t, e, ws, documentLossStep, newStill(t, path, weights))
			})
		}
	}
}

// The loss is that of the formula, in float64 over states that are known; a text like the right one is no negative.
func TestContrastIsInfoNCE(t *testing.T) {
	t.Parallel()
	states := []float32{1, 0, 0.9, 0.1, 0, 1, 0.5, 0.5, 0.6, 0.4, 0.9, 0.1}
	c := &contrast{Contrast: Contrast{Temperature: 0.5}, n: 2}
	for i, role := range []data.Role{data.RoleQuery, data.RolePositive, data.RoleNegative, data.RoleQuery, data.RolePositive, data.RolePositive} {
		c.add(text{row: i, role: role, hash: uint64(i)})
	}
	c.texts[5].hash = 1 // the same text as the first query's
	cosine := func(i, j int) float64 {
		a, b := states[2*i:][:2], states[2*j:][:2]
		return dotOf(a, b) / math.Sqrt(dotOf(a, a)*dotOf(b, b))
	}
	loss := func(i, right int, others ...int) float64 {
		z := math.Exp(cosine(i, right) / 0.5)
		for _, j := range others {
			z += math.Exp(cosine(i, j) / 0.5)
		}
		return math.Log(z) - cosine(i, right)/0.5
	}
	want := loss(0, 1, 2, 4) + loss(3, 4, 1, 2, 5)
	const tolerance = 1e-6 // unit vectors are kept in float32
	if got := c.run(states, nil, 1); !near.Enough(got, want, tolerance) {
		t.Errorf("loss %v, want %v", got, want)
	}
}
