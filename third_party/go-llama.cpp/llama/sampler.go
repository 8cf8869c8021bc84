package llama

/*
#include <stdlib.h>
#include "bridge.h"
*/
import "C"

import (
	"math"
	"unsafe"
)

// RandomSeed as a Seed asks for a new one each time.
const RandomSeed = math.MaxUint32

// SamplerParams says how the next token is chosen from the logits. The zero value is greedy: the most likely token. Fields
// at zero do nothing. The order is llama.cpp's: penalties, bias, grammar, then top-k, typical, top-p, min-p, temperature.
type SamplerParams struct {
	Temp     float32 // temperature; 0 or less: greedy
	TopK     int     // choose among the K most likely
	TopP     float32 // choose among the most likely with a summed probability of P; 0 and 1: all
	MinP     float32 // drop those below P times the most likely
	TypicalP float32 // locally typical sampling; 0 and 1: off
	Seed     uint32

	PenaltyLast    int     // tokens that the penalties look back on; -1: all the context, 0: no penalties
	PenaltyRepeat  float32 // divides or multiplies the logit of a token seen; 0 and 1: off
	PenaltyFreq    float32 // taken off for each time it was seen
	PenaltyPresent float32 // taken off once
	SpareNewline   bool    // do not penalize the newline

	Mirostat    int     // 0: off; 1 or 2: that version of Mirostat, in place of top-k, top-p, min-p and typical
	MirostatTau float32 // wanted surprise
	MirostatEta float32 // learning rate

	LogitBias map[int32]float32 // added to the logit of a token; -Inf forbids it
	Grammar   string            // GBNF grammar with the start symbol root; "": none. llama.cpp writes why one does not parse to stderr
}

// Sampler chooses tokens. It remembers those it accepted, for penalties, grammar and Mirostat. It must not be used by two
// goroutines at a time.
type Sampler struct {
	closer
	p *C.fl_sampler
	n int // n_vocab
}

// mirostatM is the number of candidates from which Mirostat 1 estimates the distribution, as in its paper.
const mirostatM = 100

// NewSampler makes a sampler for models with the vocabulary v. The caller closes it. A grammar that does not parse and a
// biased token outside of the vocabulary are an *Error.
func NewSampler(v *Vocab, p SamplerParams) (*Sampler, error) {
	const op = "new sampler"
	if v.n == 0 {
		return nil, errorf(op, "the model has no vocabulary")
	}
	spared := C.int32_t(-1)
	if p.SpareNewline {
		spared = C.int32_t(v.NL())
	}
	s := &Sampler{p: C.fl_sampler_new(C.int32_t(v.n), spared), n: v.n}
	if s.p == nil {
		return nil, errorf(op, "out of memory")
	}
	if err := s.build(op, v, p); err != nil {
		C.fl_sampler_free(s.p)
		return nil, err
	}
	s.closer = watch("sampler")
	return s, nil
}

func (s *Sampler) build(op string, v *Vocab, p SamplerParams) error {
	if p.PenaltyLast != 0 && (on(p.PenaltyRepeat) || p.PenaltyFreq != 0 || p.PenaltyPresent != 0) {
		last := p.PenaltyLast
		if last < 0 {
			last = max(v.m.NCtxTrain(), 64)
		}
		repeat := p.PenaltyRepeat
		if repeat == 0 {
			repeat = 1
		}
		C.fl_sampler_add_penalty(s.p, C.llama_sampler_init_penalties(C.int32_t(v.n), C.int32_t(last), C.float(repeat), C.float(p.PenaltyFreq), C.float(p.PenaltyPresent)))
	}
	if err := s.addBias(op, v, p.LogitBias); err != nil {
		return err
	}
	if err := s.addGrammar(v, p.Grammar); err != nil {
		return err
	}
	s.addChoice(v, p)
	return nil
}

// on reports whether a probability or factor does anything: 1 is neutral and 0 means not set.
func on(x float32) bool { return x != 0 && x != 1 }

func (s *Sampler) addBias(op string, v *Vocab, bias map[int32]float32) error {
	if len(bias) == 0 {
		return nil
	}
	list := make([]C.struct_llama_logit_bias, 0, len(bias))
	for id, b := range bias {
		if !v.has(id) {
			return errorf(op, "bias for token %d, want one of the %d in the vocabulary", id, v.n)
		}
		list = append(list, C.struct_llama_logit_bias{token: C.int32_t(id), bias: C.float(b)})
	}
	C.fl_sampler_add(s.p, C.llama_sampler_init_logit_bias(C.int32_t(v.n), C.int32_t(len(list)), &list[0]))
	return nil
}

func (s *Sampler) addGrammar(v *Vocab, grammar string) error {
	if grammar == "" {
		return nil
	}
	cg := C.CString(grammar)
	defer C.free(unsafe.Pointer(cg))
	var e C.fl_error
	if !bool(C.fl_sampler_add(s.p, C.fl_sampler_grammar(v.p, cg, &e))) {
		return nativeError("parse grammar", 0, &e, "it is not a GBNF grammar with a rule named root")
	}
	return nil
}

func (s *Sampler) addChoice(v *Vocab, p SamplerParams) {
	seed := C.uint32_t(p.Seed)
	temp := C.llama_sampler_init_temp(C.float(p.Temp))
	switch {
	case p.Temp <= 0:
		C.llama_sampler_free(temp)
		C.fl_sampler_add(s.p, C.llama_sampler_init_greedy())
	case p.Mirostat == 1:
		C.fl_sampler_add(s.p, temp)
		C.fl_sampler_add(s.p, C.llama_sampler_init_mirostat(C.int32_t(v.n), seed, C.float(p.MirostatTau), C.float(p.MirostatEta), mirostatM))
	case p.Mirostat == 2:
		C.fl_sampler_add(s.p, temp)
		C.fl_sampler_add(s.p, C.llama_sampler_init_mirostat_v2(seed, C.float(p.MirostatTau), C.float(p.MirostatEta)))
	default:
		if p.TopK > 0 {
			C.fl_sampler_add(s.p, C.llama_sampler_init_top_k(C.int32_t(p.TopK)))
		}
		if on(p.TypicalP) {
			C.fl_sampler_add(s.p, C.llama_sampler_init_typical(C.float(p.TypicalP), 1))
		}
		if on(p.TopP) {
			C.fl_sampler_add(s.p, C.llama_sampler_init_top_p(C.float(p.TopP), 1))
		}
		if p.MinP > 0 {
			C.fl_sampler_add(s.p, C.llama_sampler_init_min_p(C.float(p.MinP), 1))
		}
		C.fl_sampler_add(s.p, temp)
		C.fl_sampler_add(s.p, C.llama_sampler_init_dist(seed))
	}
}

// Close frees the sampler. A second Close does nothing.
func (s *Sampler) Close() error {
	if !s.closed {
		C.fl_sampler_free(s.p)
		s.p, s.closed = nil, true
	}
	return nil
}

// Sample chooses the token that follows token i of the context's last batch. It does not Accept it.
func (s *Sampler) Sample(c *Context, i int) (int32, error) {
	logits := c.Logits(i)
	if logits == nil {
		return -1, errorf("sample", "token %d of the last batch has no logits", i)
	}
	return s.Choose(logits)
}

// Choose chooses a token by logits, [n_vocab].
func (s *Sampler) Choose(logits []float32) (int32, error) {
	if len(logits) != s.n {
		return -1, errorf("sample", "%d logits, want %d", len(logits), s.n)
	}
	var e C.fl_error
	id := int(C.fl_sampler_sample(s.p, (*C.float)(&logits[0]), &e))
	if id < 0 {
		return -1, nativeError("sample", id, &e, "no token could be chosen")
	}
	return int32(id), nil
}

// Accept tells the sampler that id was chosen and is now part of the text. With a grammar, a token that does not fit it is
// an *Error.
func (s *Sampler) Accept(id int32) error { return s.accept(id, true) }

// Seen tells the penalties, and nothing else, that ids are part of the text: the prompt.
func (s *Sampler) Seen(ids ...int32) error {
	for _, id := range ids {
		if err := s.accept(id, false); err != nil {
			return err
		}
	}
	return nil
}

func (s *Sampler) accept(id int32, chosen bool) error {
	const op = "accept token"
	if id < 0 || int(id) >= s.n {
		return errorf(op, "token %d, want one of the %d in the vocabulary", id, s.n)
	}
	var e C.fl_error
	if code := int(C.fl_sampler_accept(s.p, C.int32_t(id), C.bool(chosen), &e)); code != 0 {
		return nativeError(op, code, &e, "the token was refused")
	}
	return nil
}
