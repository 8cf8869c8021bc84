package llama

// #include "bridge.h"
import "C"

import (
	"fmt"
	"slices"
)

// Batch is what a Decode computes: tokens, each at a position of a sequence.
type Batch struct {
	Tokens []int32
	Pos    []int32 // position of each token; nil: every sequence goes on after its last token, from 0 when it is empty
	Seq    []int32 // sequence of each token, below NSeqMax; nil: 0
	Output []bool  // tokens whose logits are wanted; nil: the last one
}

// Decode runs the batch and appends its tokens to the context's memory. An *Error with CodeNoSlot means that the memory is
// full, with CodeInvalidBatch that the positions do not follow those in memory; nothing is appended in either case.
func (c *Context) Decode(b Batch) error {
	const op = "decode"
	nb, err := c.prepare(op, b)
	if err != nil {
		return err
	}
	var e C.fl_error
	code := int(C.fl_decode(c.p, nb.n, nb.tokens, nb.pos, nb.seq, nb.output, &e))
	if code != 0 {
		c.output = nil
		return nativeError(op, code, &e, decodeFailure(code, len(b.Tokens)))
	}
	c.output = nb.wanted
	return nil
}

func decodeFailure(code, n int) string {
	switch code {
	case CodeNoSlot:
		return fmt.Sprintf("the context's memory has no room for %d more tokens", n)
	case CodeAborted:
		return "aborted"
	case CodeInvalidBatch:
		return "invalid batch"
	}
	return fmt.Sprintf("failed with code %d", code)
}

// prepare refuses what llama.cpp would abort on and fills in what b leaves out.
func (c *Context) prepare(op string, b Batch) (*cBatch, error) {
	if c.closed {
		return nil, errorf(op, "the context is closed")
	}
	n := len(b.Tokens)
	switch {
	case n == 0:
		return nil, &Error{op, CodeInvalidBatch, "batch without tokens"}
	case n > c.NBatch():
		return nil, &Error{op, CodeInvalidBatch, fmt.Sprintf("batch of %d tokens, want at most NBatch = %d", n, c.NBatch())}
	case b.Pos != nil && len(b.Pos) != n, b.Seq != nil && len(b.Seq) != n, b.Output != nil && len(b.Output) != n:
		return nil, &Error{op, CodeInvalidBatch, fmt.Sprintf("batch of %d tokens with %d positions, %d sequence ids and %d outputs",
			n, len(b.Pos), len(b.Seq), len(b.Output))}
	case slices.Min(b.Tokens) < 0: // to llama.cpp -1 is no token
		return nil, &Error{op, CodeInvalidBatch, fmt.Sprintf("token %d in the batch, want one of the %d in the vocabulary", slices.Min(b.Tokens), c.m.vocab.n)}
	case n > c.NUBatch() && c.wholeBatchOnly():
		return nil, &Error{op, CodeInvalidBatch, fmt.Sprintf("batch of %d tokens, want at most NUBatch = %d for a model that is not causal", n, c.NUBatch())}
	}
	return c.fill(b), nil
}

// wholeBatchOnly reports whether the model attends in both directions, so that a batch cannot be cut.
func (c *Context) wholeBatchOnly() bool {
	return c.m.HasEncoder() || !c.HasMemory() || c.m.IsDiffusion()
}

// cBatch is a batch in the form the bridge takes. Its pointers are into Go memory: they live as long as the call.
type cBatch struct {
	n                C.int32_t
	tokens, pos, seq *C.int32_t
	output           *C.int8_t
	wanted           []bool
}

func (c *Context) fill(b Batch) *cBatch {
	n := len(b.Tokens)
	wanted := make([]bool, n)
	output := make([]int8, n)
	copy(wanted, b.Output)
	if b.Output == nil {
		wanted[n-1] = true
	}
	for i := range wanted {
		if c.embeddings && C.llama_pooling_type(c.p) > C.LLAMA_POOLING_TYPE_NONE {
			wanted[i] = true // pooling needs every token
		}
		if wanted[i] {
			output[i] = 1
		}
	}
	seq := b.Seq
	if seq == nil {
		seq = make([]int32, n)
	}
	nb := &cBatch{n: C.int32_t(n), tokens: (*C.int32_t)(&b.Tokens[0]), seq: (*C.int32_t)(&seq[0]), output: (*C.int8_t)(&output[0]), wanted: wanted}
	if b.Pos != nil {
		nb.pos = (*C.int32_t)(&b.Pos[0])
	}
	return nb
}
