package llama

// #include "bridge.h"
import "C"

import (
	"fmt"
	"runtime"
	"unsafe"

	"github.com/go-skynet/go-llama.cpp/ggml"
)

// FlashAttn says when a context uses flash attention.
type FlashAttn int

// The values llama.cpp knows. Off is needed to trace, since the training graph is made of the unfused operations.
const (
	FlashAttnAuto FlashAttn = iota // on where the backend can
	FlashAttnOff
	FlashAttnOn
)

// ContextParams says how to make a context (struct llama_context_params). Zero fields take the value in brackets.
type ContextParams struct {
	NCtx    int // tokens of memory for all sequences together [512]; llama.cpp rounds up to a multiple of 256
	NBatch  int // most tokens a Decode [2048, at most NCtx]
	NUBatch int // most tokens a graph: a larger batch is cut into several [512, at most NBatch]
	NSeqMax int // sequences [1]
	Threads int // threads for a Decode [the number of CPUs]

	FlashAttn FlashAttn
	TypeK     *ggml.Type // type of the cached keys [F16]
	TypeV     *ggml.Type // type of the cached values [F16]

	Embeddings   bool // Decode also keeps the embeddings, see Context.Embedding
	NoPooling    bool // keep each token's embedding, also of a model that pools those of a sequence into one
	KVUnified    bool // one memory for all sequences instead of an equal part of NCtx for each
	NoOffloadKQV bool // keep the memory off the accelerator
	NoOpOffload  bool // never send single operations to an accelerator
	NoSWAFull    bool // keep only the sliding window of the layers that have one: less memory, no RemoveTokens in the middle

	RopeFreqBase  float32 // [the model's]
	RopeFreqScale float32 // [the model's]

	// Trace makes the context ready for Context.Trace: no flash attention, nothing on an accelerator. It still decodes.
	Trace bool
}

// Context is a memory for tokens, and the room to compute the next ones (struct llama_context). It must not be used by two
// goroutines at a time.
type Context struct {
	closer
	p     *C.llama_context
	m     *Model
	trace *C.fl_trace

	params     ContextParams
	embeddings bool
	output     []bool               // of the last Decode: which tokens have logits
	adapters   map[*Adapter]float32 // those that are set, with their scale
}

// NewContext makes a context for m. The caller closes it, before m. A model without weights (VocabOnly, a tokenizer-only
// file) and one whose graph llama.cpp cannot build are an *Error.
func NewContext(m *Model, p ContextParams) (*Context, error) {
	op := fmt.Sprintf("new context of %q", m.path)
	if err := m.retain(op); err != nil {
		return nil, err
	}
	c, err := newContext(op, m, p)
	if err != nil {
		m.release()
		return nil, err
	}
	c.closer = watch(fmt.Sprintf("context of %q", m.path))
	return c, nil
}

func newContext(op string, m *Model, p ContextParams) (*Context, error) {
	if err := p.check(op, m); err != nil {
		return nil, err
	}
	p.Threads = orDefault(p.Threads, runtime.NumCPU())
	c := &Context{m: m, params: p, embeddings: p.Embeddings, adapters: map[*Adapter]float32{}}
	if c.trace = C.fl_trace_new(); c.trace == nil {
		return nil, errorf(op, "out of memory")
	}
	params := p.native()
	C.fl_trace_use(c.trace, &params, C.bool(p.Trace))
	var e C.fl_error
	if c.p = C.fl_new_context(m.p, params, &e); c.p == nil {
		C.fl_trace_free(c.trace)
		return nil, nativeError(op, 0, &e, "llama.cpp gave no reason")
	}
	return c, nil
}

// check refuses what llama.cpp would abort on.
func (p ContextParams) check(op string, m *Model) error {
	if m.vocabOnly || m.NParams() == 0 || m.NLayer() == 0 {
		return errorf(op, "the model has a vocabulary only, no weights")
	}
	switch arch := m.Arch(); arch {
	case "clip", "gptj": // loaded, but there is no graph for them
		return errorf(op, "llama.cpp cannot run architecture %q", arch)
	}
	if f := p.outOfRange(); f != "" {
		return errorf(op, "%s, want 0 to %d", f, maxParam)
	}
	for _, t := range []*ggml.Type{p.TypeK, p.TypeV} {
		if t != nil && t.BlockSize() == 0 {
			return errorf(op, "unknown cache type %d", *t)
		}
	}
	return nil
}

// maxParam bounds the sizes before llama.cpp multiplies them.
const maxParam = 1 << 30

func (p ContextParams) outOfRange() string {
	for _, f := range []struct {
		name string
		n    int
	}{{"NCtx", p.NCtx}, {"NBatch", p.NBatch}, {"NUBatch", p.NUBatch}, {"NSeqMax", p.NSeqMax}, {"Threads", p.Threads}} {
		if f.n < 0 || f.n > maxParam {
			return fmt.Sprintf("%s is %d", f.name, f.n)
		}
	}
	return ""
}

func (p ContextParams) native() C.struct_llama_context_params {
	params := C.llama_context_default_params()
	params.n_ctx = C.uint32_t(orDefault(p.NCtx, int(params.n_ctx)))
	params.n_batch = C.uint32_t(orDefault(p.NBatch, min(int(params.n_batch), int(params.n_ctx))))
	params.n_ubatch = C.uint32_t(min(orDefault(p.NUBatch, int(params.n_ubatch)), int(params.n_batch)))
	params.n_seq_max = C.uint32_t(orDefault(p.NSeqMax, 1))
	params.n_threads = C.int32_t(p.Threads)
	params.n_threads_batch = params.n_threads
	params.embeddings = C.bool(p.Embeddings)
	if p.NoPooling {
		params.pooling_type = C.LLAMA_POOLING_TYPE_NONE
	}
	params.kv_unified = C.bool(p.KVUnified)
	params.offload_kqv = C.bool(!p.NoOffloadKQV && !p.Trace)
	params.op_offload = C.bool(!p.NoOpOffload && !p.Trace)
	params.swa_full = C.bool(!p.NoSWAFull)
	params.rope_freq_base = C.float(p.RopeFreqBase)
	params.rope_freq_scale = C.float(p.RopeFreqScale)
	switch {
	case p.Trace || p.FlashAttn == FlashAttnOff:
		params.flash_attn_type = C.LLAMA_FLASH_ATTN_TYPE_DISABLED
	case p.FlashAttn == FlashAttnOn:
		params.flash_attn_type = C.LLAMA_FLASH_ATTN_TYPE_ENABLED
	}
	if p.TypeK != nil {
		params.type_k = C.enum_ggml_type(*p.TypeK)
	}
	if p.TypeV != nil {
		params.type_v = C.enum_ggml_type(*p.TypeV)
	}
	return params
}

func orDefault(n, def int) int {
	if n == 0 {
		return def
	}
	return n
}

// Close frees the context. A second Close does nothing.
func (c *Context) Close() error {
	if c.closed {
		return nil
	}
	c.ClearAdapters()
	C.llama_free(c.p)
	C.fl_trace_free(c.trace)
	c.p, c.trace, c.closed = nil, nil, true
	c.m.release()
	return nil
}

// Model returns the model the context was made for.
func (c *Context) Model() *Model { return c.m }

// NCtx returns the room in tokens for all sequences together, NCtxSeq for each; NBatch, NUBatch and NSeqMax are the
// limits that llama.cpp settled on.
func (c *Context) NCtx() int    { return int(C.llama_n_ctx(c.p)) }
func (c *Context) NCtxSeq() int { return int(C.llama_n_ctx_seq(c.p)) }
func (c *Context) NBatch() int  { return int(C.llama_n_batch(c.p)) }
func (c *Context) NUBatch() int { return int(C.llama_n_ubatch(c.p)) }
func (c *Context) NSeqMax() int { return int(C.llama_n_seq_max(c.p)) }

// SetThreads sets the number of threads of the next Decode. More than there are cores is slower, not faster: ggml's
// threads wait for each other by spinning.
func (c *Context) SetThreads(n int) {
	n = max(n, 1)
	C.llama_set_n_threads(c.p, C.int32_t(n), C.int32_t(n))
}

// SetEmbeddings switches whether the next Decode keeps embeddings.
func (c *Context) SetEmbeddings(on bool) {
	C.llama_set_embeddings(c.p, C.bool(on))
	c.embeddings = on
}

// Logits returns the row of logits, [n_vocab], that follows token i of the last decoded batch. It is a view of
// llama.cpp's memory, writable and valid until the next Decode or Close. It is nil when token i was not an output of
// that batch.
func (c *Context) Logits(i int) []float32 {
	if !c.isOutput(i) {
		return nil
	}
	return view(C.llama_get_logits_ith(c.p, C.int32_t(i)), c.m.vocab.n)
}

// Embedding returns the embedding, [n_embd], of token i of the last decoded batch: the last hidden state after the
// final norm. It is a view as Logits is, and nil when there is none.
func (c *Context) Embedding(i int) []float32 {
	if !c.embeddings || !c.isOutput(i) {
		return nil
	}
	return view(C.llama_get_embeddings_ith(c.p, C.int32_t(i)), c.m.NEmbd())
}

// EmbeddingSeq returns the pooled embedding, [n_embd], of a sequence, for models that pool (BERT and the like); else
// nil.
func (c *Context) EmbeddingSeq(seq int32) []float32 {
	if !c.embeddings || !c.Pools() {
		return nil
	}
	return view(C.llama_get_embeddings_seq(c.p, C.int32_t(seq)), c.m.NEmbd())
}

// ClassScores returns the scores of the classes, [n_cls_out], of a sequence, for models whose pooling ranks; else nil.
func (c *Context) ClassScores(seq int32) []float32 {
	if !c.embeddings || C.llama_pooling_type(c.p) != C.LLAMA_POOLING_TYPE_RANK {
		return nil
	}
	return view(C.llama_get_embeddings_seq(c.p, C.int32_t(seq)), int(C.llama_model_n_cls_out(c.m.p)))
}

// Pools reports whether the model pools the embeddings of a sequence's tokens into one (BERT and the like). The pooling
// types that do are above LLAMA_POOLING_TYPE_NONE, all but the last one, RANK, whose result is a score.
func (c *Context) Pools() bool {
	p := C.llama_pooling_type(c.p)
	return p > C.LLAMA_POOLING_TYPE_NONE && p != C.LLAMA_POOLING_TYPE_RANK
}

func (c *Context) isOutput(i int) bool { return i >= 0 && i < len(c.output) && c.output[i] }

func view(p *C.float, n int) []float32 {
	if p == nil {
		return nil
	}
	return unsafe.Slice((*float32)(p), n)
}
