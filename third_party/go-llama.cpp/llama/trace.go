package llama

// #include "bridge.h"
import "C"

import (
	"unsafe"

	"github.com/go-skynet/go-llama.cpp/ggml"
)

// Trace lists the nodes of the graph that Decode would run for b, in the order they would run. The context is made with
// ContextParams.Trace. The list is complete, views included; leaves are reached through the nodes' operands, and the input
// leaves (tokens, positions, masks, rows to output) already hold their data. The context's memory is as before.
//
// It rests on two callbacks that llama_decode takes. One is asked about every node before any runs; it notes the node, on
// the C side, and answers no, so that llama.cpp goes on asking. The other is polled between nodes and stops the run after
// the first node that does any work, normally the lookup of the token embeddings. Nothing else is computed, so a node's data
// means nothing.
//
// The nodes belong to the context and are valid until its next Decode, Trace or Close. The batch has to fit into one
// graph: at most NUBatch tokens, and, when each sequence has a memory of its own (KVUnified off, NSeqMax above 1), the
// same number of tokens for each of the sequences n, n+1, n+2 …
func (c *Context) Trace(b Batch) ([]ggml.Tensor, error) {
	const op = "trace"
	if err := c.checkTrace(op, b); err != nil {
		return nil, err
	}
	nb, err := c.prepare(op, b)
	if err != nil {
		return nil, err
	}
	c.output = nil
	var e C.fl_error
	code := int(C.fl_stopped_decode(c.trace, c.p, nb.n, nb.tokens, nb.pos, nb.seq, nb.output, &e))
	switch {
	case code == 0: // a graph without a node that does any work
		return nil, errorf(op, "the graph ran to its end instead of being stopped")
	case code != CodeAborted:
		return nil, nativeError(op, code, &e, decodeFailure(code, len(b.Tokens)))
	}
	nodes := make([]ggml.Tensor, C.fl_trace_len(c.trace))
	for i, p := range unsafe.Slice(C.fl_trace_nodes(c.trace), len(nodes)) {
		nodes[i] = ggml.FromPointer(unsafe.Pointer(p))
	}
	return nodes, nil
}

func (c *Context) checkTrace(op string, b Batch) error {
	switch {
	case c.closed:
		return errorf(op, "the context is closed")
	case !c.params.Trace:
		return errorf(op, "the context was made without ContextParams.Trace")
	case len(b.Tokens) > c.NUBatch():
		return errorf(op, "batch of %d tokens, want at most NUBatch = %d", len(b.Tokens), c.NUBatch())
	case b.Seq == nil || c.params.KVUnified || c.NSeqMax() == 1:
		return nil
	}
	return checkEqualSequences(op, b.Seq)
}

// checkEqualSequences refuses a batch that llama.cpp would cut into several graphs (llama_batch_allocr::split_equal).
func checkEqualSequences(op string, seq []int32) error {
	count := map[int32]int{}
	last := seq[0]
	for i, s := range seq {
		if count[s] == 0 && i > 0 {
			if s != last+1 {
				return errorf(op, "sequence %d first appears after sequence %d, want %d: the sequences of a trace follow each other", s, last, last+1)
			}
			last = s
		}
		count[s]++
	}
	for s, n := range count {
		if n != count[seq[0]] {
			return errorf(op, "sequence %d has %d tokens, sequence %d has %d: a trace wants them equal", seq[0], count[seq[0]], s, n)
		}
	}
	return nil
}
