package llama

// #include "bridge.h"
import "C"

// ClearMemory forgets all tokens of all sequences.
func (c *Context) ClearMemory() {
	if mem := c.memory(); mem != nil {
		C.llama_memory_clear(mem, false)
	}
}

// RemoveTokens forgets the tokens of seq at positions p0 up to but not including p1; p1 -1 means to the end, seq -1 every
// sequence. It reports false where the model's memory cannot forget a part: recurrent models keep one state.
func (c *Context) RemoveTokens(seq int32, p0, p1 int) bool {
	mem := c.memory()
	if mem == nil {
		return true
	}
	if !c.validSeq(seq) && seq != -1 {
		return false
	}
	return bool(C.llama_memory_seq_rm(mem, C.int32_t(seq), C.int32_t(p0), C.int32_t(p1)))
}

// CopyTokens makes the tokens of a sequence those of another as well, which should be empty: both can then go on, each in
// its own way. With ContextParams.KVUnified they share the memory. It reports false where there is no such sequence, or no
// memory.
func (c *Context) CopyTokens(from, to int32) bool {
	mem := c.memory()
	if mem == nil || !c.validSeq(from) || !c.validSeq(to) {
		return false
	}
	C.llama_memory_seq_cp(mem, C.int32_t(from), C.int32_t(to), -1, -1)
	return true
}

// ShiftTokens moves the tokens of seq at positions p0 up to but not including p1 by delta positions. It reports false where
// the model's memory cannot.
func (c *Context) ShiftTokens(seq int32, p0, p1, delta int) bool {
	mem := c.memory()
	if mem == nil || !c.validSeq(seq) || !c.CanShift() {
		return false
	}
	C.llama_memory_seq_add(mem, C.int32_t(seq), C.int32_t(p0), C.int32_t(p1), C.int32_t(delta))
	return true
}

// CanShift reports whether ShiftTokens works: not for recurrent models, nor for those whose positions are vectors.
func (c *Context) CanShift() bool {
	mem := c.memory()
	if mem == nil || !bool(C.llama_memory_can_shift(mem)) {
		return false
	}
	switch C.llama_model_rope_type(c.m.p) { // several positions a token
	case C.LLAMA_ROPE_TYPE_MROPE, C.LLAMA_ROPE_TYPE_IMROPE, C.LLAMA_ROPE_TYPE_VISION:
		return false
	}
	return true
}

// Len returns the number of positions that seq takes up in memory: one more than its last position.
func (c *Context) Len(seq int32) int {
	mem := c.memory()
	if mem == nil || !c.validSeq(seq) {
		return 0
	}
	return int(C.llama_memory_seq_pos_max(mem, C.int32_t(seq))) + 1
}

// HasMemory reports whether the context remembers the tokens of a Decode, as it has to in order to continue a text. Models
// that attend in both directions (BERT and the like) remember nothing.
func (c *Context) HasMemory() bool { return c.memory() != nil }

// memory returns nil where HasMemory is false.
func (c *Context) memory() C.llama_memory_t { return C.llama_get_memory(c.p) }

func (c *Context) validSeq(seq int32) bool { return seq >= 0 && int(seq) < c.NSeqMax() }
