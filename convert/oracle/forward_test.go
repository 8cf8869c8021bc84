package oracle

import (
	"math"
	"testing"

	"finetune/convert"
	"finetune/internal/near"
	"finetune/internal/testmodel"
	"finetune/quant/plain"
)

// vector is the state of one token.
type vector []float64

// hfLlama computes LlamaForCausalLM as transformers does, rotating the halves of each
// head: what the order of rows means, rather than what a converter does to it.
type hfLlama struct {
	t      *testing.T
	w      *world
	layers int
	d      int // size of a head
}

// linear is W·x + scale·B·(A·x).
func (h *hfLlama) linear(module string, x vector) vector {
	w, l := h.w.weights[module], h.w.loras[module]
	low := times(l.a, l.rank, x)
	y, change := times(w.v, w.out, x), times(l.b, w.out, low)
	for i := range y {
		y[i] += l.scale * change[i]
	}
	return y
}

// times multiplies rows of len(x) numbers with x.
func times(m []float32, rows int, x vector) vector {
	y := make(vector, rows)
	for i := range y {
		for j, v := range x {
			y[i] += float64(m[i*len(x)+j]) * v
		}
	}
	return y
}

// norm is RMSNorm with the weight of a tensor of the source.
func (h *hfLlama) norm(tensor string, x vector) vector {
	const epsilon = 1e-5 // testmodel's
	data, err := h.w.source.Data(tensor)
	if err != nil {
		h.t.Fatal(err)
	}
	t, _ := h.w.source.Tensor(tensor)
	weight := make([]float32, len(x))
	if err := plain.Decode(t.Type, data, weight); err != nil {
		h.t.Fatal(err)
	}
	squares := 0.0
	for _, v := range x {
		squares += v * v
	}
	y := make(vector, len(x))
	for i, v := range x {
		y[i] = v / math.Sqrt(squares/float64(len(x))+epsilon) * float64(weight[i])
	}
	return y
}

// rotate applies rotary embeddings to the heads of x: element i of a head turns with
// element i + d/2.
func (h *hfLlama) rotate(x vector, position int) {
	for head := 0; head < len(x); head += h.d {
		for i := range h.d / 2 {
			angle := float64(position) * math.Pow(10000, -2*float64(i)/float64(h.d))
			a, b := x[head+i], x[head+i+h.d/2]
			x[head+i] = a*math.Cos(angle) - b*math.Sin(angle)
			x[head+i+h.d/2] = b*math.Cos(angle) + a*math.Sin(angle)
		}
	}
}

// embed is the row of a token, with the adapter on the table.
func (h *hfLlama) embed(token int32) vector {
	const module = "model.embed_tokens"
	w, l := h.w.weights[module], h.w.loras[module]
	x := make(vector, w.in)
	for j := range x {
		x[j] = float64(w.v[int(token)*w.in+j])
		for k := range l.rank {
			x[j] += l.scale * float64(l.b[j*l.rank+k]) * float64(l.a[k*w.out+int(token)])
		}
	}
	return x
}

// attention returns the heads' sums of values for the last of the tokens.
func (h *hfLlama) attention(q vector, ks, vs []vector) vector {
	out := make(vector, len(q))
	shared := h.w.heads / h.w.kv
	for head := range h.w.heads {
		at, kv := head*h.d, head/shared*h.d
		scores, sum := make(vector, len(ks)), 0.0
		for t, k := range ks {
			for i := range h.d {
				scores[t] += q[at+i] * k[kv+i]
			}
			scores[t] = math.Exp(scores[t] / math.Sqrt(float64(h.d)))
			sum += scores[t]
		}
		for t, v := range vs {
			for i := range h.d {
				out[at+i] += scores[t] / sum * v[kv+i]
			}
		}
	}
	return out
}

// logits runs the tokens and returns all rows.
func (h *hfLlama) logits(tokens []int32) []float32 {
	ks, vs := make([][]vector, h.layers), make([][]vector, h.layers)
	var all []float32
	for position, token := range tokens {
		x := h.embed(token)
		for i := range h.layers {
			module := func(name string) string { return fill("model.layers.*."+name, i, 0) }
			n := h.norm(fill("blk.*.attn_norm.weight", i, 0), x)
			q, k := h.linear(module("self_attn.q_proj"), n), h.linear(module("self_attn.k_proj"), n)
			h.rotate(q, position)
			h.rotate(k, position)
			ks[i], vs[i] = append(ks[i], k), append(vs[i], h.linear(module("self_attn.v_proj"), n))
			x = plus(x, h.linear(module("self_attn.o_proj"), h.attention(q, ks[i], vs[i])))
			n = h.norm(fill("blk.*.ffn_norm.weight", i, 0), x)
			gate, up := h.linear(module("mlp.gate_proj"), n), h.linear(module("mlp.up_proj"), n)
			for j, g := range gate {
				up[j] *= g / (1 + math.Exp(-g))
			}
			x = plus(x, h.linear(module("mlp.down_proj"), up))
		}
		for _, v := range h.linear("lm_head", h.norm("output_norm.weight", x)) {
			all = append(all, float32(v))
		}
	}
	return all
}

func plus(x, y vector) vector {
	for i := range x {
		x[i] += y[i]
	}
	return x
}

// The converted adapter does in llama.cpp what it does in transformers' own
// arithmetic, written down in plain Go.
func TestEffectEqualsTransformers(t *testing.T) {
	path := testmodel.Path(t, testmodel.Spec{Layers: 3})
	w, config := newWorld(t, "llama", path)
	base := w.write(t, func(module string) weight { return w.weights[module] })
	lora := run(t, w.peft(t, config), convert.GGUF, base)

	h := &hfLlama{t, w, 3, 16}
	want := h.logits(tokens)
	got, plain := logits(t, base, lora), logits(t, base, "")
	effect, off := near.Farthest(want, plain), near.Farthest(got, want)
	t.Logf("the adapter changes logits by up to %.3g; they are off by up to %.3g", effect, off)
	if effect < leastEffect || !near.Enough(off, 0.0, tolerance*effect) {
		t.Errorf("logits are off by %g, want at most %g of %g", off, tolerance, effect)
	}
	clear(w.loras)
	if off := near.Farthest(h.logits(tokens), plain); off > tolerance {
		t.Errorf("without adapter: logits are off by %g, want at most %g: the reference is wrong", off, tolerance)
	}
}
