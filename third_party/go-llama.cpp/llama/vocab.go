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

// Vocab is a model's vocabulary (struct llama_vocab). It lives as long as its Model and may be shared by goroutines.
type Vocab struct {
	p    *C.llama_vocab
	m    *Model
	n    int
	none bool // the model comes without a vocabulary
}

func newVocab(m *Model) *Vocab {
	p := C.llama_model_get_vocab(m.p)
	return &Vocab{p: p, m: m, n: int(C.llama_vocab_n_tokens(p)), none: C.llama_vocab_type(p) == C.LLAMA_VOCAB_TYPE_NONE}
}

// NTokens returns n_vocab, the number of tokens.
func (v *Vocab) NTokens() int { return v.n }

// BOS, EOS, EOT, SEP, PAD and NL are the tokens that begin a text, end it, end a turn of a chat, stand between two texts, fill, and
// break a line; -1 where the vocabulary has none.
func (v *Vocab) BOS() int32 { return int32(C.llama_vocab_bos(v.p)) }
func (v *Vocab) EOS() int32 { return int32(C.llama_vocab_eos(v.p)) }
func (v *Vocab) EOT() int32 { return int32(C.llama_vocab_eot(v.p)) }
func (v *Vocab) SEP() int32 { return int32(C.llama_vocab_sep(v.p)) }
func (v *Vocab) PAD() int32 { return int32(C.llama_vocab_pad(v.p)) }
func (v *Vocab) NL() int32  { return int32(C.llama_vocab_nl(v.p)) }

// AddBOS and AddEOS report whether Tokenize with addSpecial puts BOS in front of a text and EOS behind it.
func (v *Vocab) AddBOS() bool { return bool(C.llama_vocab_get_add_bos(v.p)) }
func (v *Vocab) AddEOS() bool { return bool(C.llama_vocab_get_add_eos(v.p)) }

// AddSEP reports whether the vocabulary puts SEP between two texts.
func (v *Vocab) AddSEP() bool { return bool(C.llama_vocab_get_add_sep(v.p)) }

// IsEOG reports whether id ends a generation: EOS, EOT and the like.
func (v *Vocab) IsEOG(id int32) bool {
	return v.has(id) && bool(C.llama_vocab_is_eog(v.p, C.int32_t(id)))
}

// IsControl reports whether id is a control token, which stands for no text.
func (v *Vocab) IsControl(id int32) bool {
	return v.has(id) && bool(C.llama_vocab_is_control(v.p, C.int32_t(id)))
}

func (v *Vocab) has(id int32) bool { return !v.none && id >= 0 && int(id) < v.n }

// Tokenize turns text into token ids. addSpecial adds the special tokens that the model wants around a text (see AddBOS
// and AddEOS); parseSpecial reads the names of special tokens inside text ("<|im_end|>") as those tokens instead of as
// text. Text that is not UTF-8 is not an error of its own: llama.cpp replaces what it cannot read.
func (v *Vocab) Tokenize(text string, addSpecial, parseSpecial bool) ([]int32, error) {
	const op = "tokenize"
	if err := v.checkTokenize(op, text, addSpecial); err != nil {
		return nil, err
	}
	ctext := C.CString(text) // text may hold zero bytes: its length goes along
	defer C.free(unsafe.Pointer(ctext))
	tokens := make([]int32, len(text)+8) // no tokenizer in use makes more tokens than bytes, besides the special ones
	for {
		var e C.fl_error
		n := int(C.fl_tokenize(v.p, ctext, C.int32_t(len(text)), (*C.int32_t)(&tokens[0]), C.int32_t(len(tokens)),
			C.bool(addSpecial), C.bool(parseSpecial), &e))
		switch {
		case n >= 0:
			return v.known(op, tokens[:n:n])
		case n == CodeException || n == math.MinInt32:
			if msg := C.GoString(&e.text[0]); msg != "" || n == math.MinInt32 {
				return nil, nativeError(op, n, &e, "the text is too long")
			}
		}
		tokens = make([]int32, -n)
	}
}

// known refuses tokens that are none: some of llama.cpp's tokenizers write -1 for what a vocabulary without an unknown token lacks.
func (v *Vocab) known(op string, tokens []int32) ([]int32, error) {
	for _, id := range tokens {
		if !v.has(id) {
			return nil, errorf(op, "the vocabulary has no token for a part of the text, and none for what is unknown")
		}
	}
	return tokens, nil
}

// checkTokenize refuses what llama.cpp would abort on.
func (v *Vocab) checkTokenize(op, text string, addSpecial bool) error {
	switch {
	case v.none:
		return errorf(op, "the model has no vocabulary")
	case len(text) > math.MaxInt32/2:
		return errorf(op, "text of %d bytes, want at most %d", len(text), math.MaxInt32/2)
	case addSpecial && v.AddBOS() && v.BOS() < 0:
		return errorf(op, "the vocabulary wants a BOS token in front and has none")
	case addSpecial && v.AddEOS() && v.EOS() < 0:
		return errorf(op, "the vocabulary wants an EOS token behind and has none")
	case addSpecial && bool(C.llama_vocab_get_add_sep(v.p)) && C.llama_vocab_sep(v.p) < 0:
		return errorf(op, "the vocabulary wants a separator token and has none")
	}
	return nil
}

// Piece returns the text of one token, with its leading space if it has one. Control tokens are empty unless special is
// set. A piece need not be whole UTF-8: a character may be spread over several tokens. An unknown id has no text.
func (v *Vocab) Piece(id int32, special bool) string {
	if !v.has(id) {
		return ""
	}
	return v.read(func(buf *C.char, size C.int32_t) C.int32_t {
		return C.fl_token_to_piece(v.p, C.int32_t(id), buf, size, C.bool(special))
	})
}

// Detokenize returns the text of ids as llama_detokenize writes it: without the space that some tokenizers put in
// front, unless a BOS stood before it, and for some vocabularies without spaces before punctuation. removeSpecial drops
// BOS and EOS at the ends, unparseSpecial writes control tokens by their names. Unknown ids are left out. The pieces of
// ids, one after the other, are the exact text.
func (v *Vocab) Detokenize(ids []int32, removeSpecial, unparseSpecial bool) string {
	known := make([]int32, 0, len(ids))
	for _, id := range ids {
		if v.has(id) {
			known = append(known, id)
		}
	}
	if len(known) == 0 {
		return ""
	}
	return v.read(func(buf *C.char, size C.int32_t) C.int32_t {
		return C.fl_detokenize(v.p, (*C.int32_t)(&known[0]), C.int32_t(len(known)), buf, size, C.bool(removeSpecial), C.bool(unparseSpecial))
	})
}

// read grows the buffer until the text fits: a negative length is the one that was needed.
func (v *Vocab) read(f func(buf *C.char, size C.int32_t) C.int32_t) string {
	for size := 128; ; {
		buf := (*C.char)(C.malloc(C.size_t(size)))
		n := int(f(buf, C.int32_t(size)))
		s := C.GoStringN(buf, C.int(max(n, 0)))
		C.free(unsafe.Pointer(buf))
		if n >= 0 || -n <= size {
			return s
		}
		size = -n
	}
}
