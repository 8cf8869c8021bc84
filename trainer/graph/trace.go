package graph

import (
	"errors"
	"fmt"
	"path/filepath"

	"finetune/adapter"
	"finetune/gguf"
	"finetune/internal/atomicfile"

	"github.com/go-skynet/go-llama.cpp/ggml"
	"github.com/go-skynet/go-llama.cpp/llama"
)

// Shape is the shape of a batch: Seqs sequences of Ctx tokens each.
type Shape struct {
	Ctx  int // T, tokens a sequence
	Seqs int // S
}

// tokens returns N = T·S.
func (s Shape) tokens() int { return s.Ctx * s.Seqs }

// trace is llama.cpp's forward graph for one batch shape. Its nodes live in the context and are read until close.
type trace struct {
	nodes   []ggml.Tensor
	encodes bool // the model is an encoder: it attends in both directions and ends with states, not with logits
	ctx     *llama.Context
	adapter *llama.Adapter
}

// newTrace lets llama.cpp build the graph of a batch in which every token wants logits. It attaches a zero adapter over the
// targets first: the graph then holds the LoRA branches exactly where inference applies them, and a target that the
// architecture's code never adapts has none.
func newTrace(model *llama.Model, shape Shape, targets []target) (_ *trace, err error) {
	f16 := ggml.F16
	ctx, err := llama.NewContext(model, llama.ContextParams{
		NCtx: shape.tokens(), NBatch: shape.tokens(), NUBatch: shape.tokens(), NSeqMax: shape.Seqs, Threads: 1,
		TypeK: &f16, TypeV: &f16, Trace: true, NoPooling: true,
	})
	if err != nil {
		return nil, fmt.Errorf("graph: %w", err)
	}
	t := &trace{ctx: ctx, encodes: !ctx.HasMemory()}
	defer func() {
		if err != nil {
			t.close()
		}
	}()
	if len(targets) > 0 {
		if t.adapter, err = zeroAdapter(model, targets); err != nil {
			return nil, err
		}
		if err := ctx.SetAdapter(t.adapter, 1); err != nil {
			return nil, fmt.Errorf("graph: %w", err)
		}
	}
	if t.nodes, err = ctx.Trace(traceBatch(model, shape)); err != nil {
		return nil, fmt.Errorf("graph: %w", err)
	}
	return t, nil
}

// TraceBytes returns about what llama.cpp takes while it lists the graph of a batch, in bytes; Allocate gives it back. That is the
// logits of every token (llama_context::output_reserve), keys and values in F16 where there is a cache, and the mask, in which a
// token has its sequence or, of an encoder, the whole batch (llm_graph_input_attn_no_cache).
func TraceBytes(model *llama.Model, shape Shape, encodes bool) int64 {
	tokens, attended := int64(shape.tokens()), int64(shape.Ctx)
	cache := 2 * 2 * tokens * int64(model.NLayer()) * int64(model.NEmbd()) * int64(model.NHeadKV()) / int64(max(model.NHead(), 1))
	if encodes {
		attended, cache = tokens, 0
	}
	return 4*tokens*(int64(model.Vocab().NTokens())+attended) + cache
}

func (t *trace) close() error {
	err := t.ctx.Close()
	if t.adapter != nil {
		err = errors.Join(err, t.adapter.Close())
	}
	return err
}

// traceBatch returns S sequences of T zero tokens at positions 0 to T-1: the graph does not depend on the values.
func traceBatch(model *llama.Model, shape Shape) llama.Batch {
	n := shape.tokens()
	b := llama.Batch{Tokens: make([]int32, n), Pos: make([]int32, n), Seq: make([]int32, n), Output: make([]bool, n)}
	for i := range n {
		b.Pos[i], b.Seq[i], b.Output[i] = int32(i%shape.Ctx), int32(i/shape.Ctx), true
	}
	return b
}

// zeroAdapter loads a GGUF LoRA of rank 1 whose factors are zero. llama.cpp takes adapters from files only.
func zeroAdapter(model *llama.Model, targets []target) (*llama.Adapter, error) {
	dir, remove, err := atomicfile.Scratch()
	if err != nil {
		return nil, fmt.Errorf("graph: %w", err)
	}
	defer remove()
	b := gguf.NewBuilder()
	b.Set(adapter.KeyType, adapter.TypeAdapter)
	b.Set(adapter.KeyArchitecture, model.Arch())
	b.Set(adapter.KeyKind, adapter.KindLoRA)
	b.Set(adapter.KeyAlpha, float32(0))
	for _, t := range targets {
		b.AddTensor(t.name+adapter.SuffixA, gguf.TypeF32, []int64{int64(t.nIn), 1}, make([]byte, 4*t.nIn))
		b.AddTensor(t.name+adapter.SuffixB, gguf.TypeF32, []int64{1, int64(t.nOut)}, make([]byte, 4*t.nOut))
	}
	path := filepath.Join(dir, "zero.gguf")
	if err := b.WriteFile(path); err != nil {
		return nil, fmt.Errorf("graph: %w", err)
	}
	zero, err := llama.LoadAdapter(model, path)
	if err != nil {
		return nil, fmt.Errorf("graph: %w", err)
	}
	return zero, nil
}
