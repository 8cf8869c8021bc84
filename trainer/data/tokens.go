package data

import (
	"encoding/binary"
	"io"
	"unsafe"
)

// word is a token as it is kept: its id, and in the highest bit whether it is learned.
type word = uint32

const learnedBit word = 1 << 31

// span is where an example lies among the words: the first of them, and in the lowest bits how many there are.
type span uint64

const (
	spanBits  = 24
	maxTokens = 1<<spanBits - 1 // of an example
)

func newSpan(from int64, n int) span { return span(from)<<spanBits | span(n) }

func (s span) from() int64 { return int64(s >> spanBits) }
func (s span) len() int    { return int(s & maxTokens) }

// tokenWriter writes words, in the order of bytes of this machine.
type tokenWriter struct {
	w   io.Writer
	n   int64 // words written
	buf []byte
}

// add writes an example.
func (t *tokenWriter) add(e example) (span, error) {
	t.buf = t.buf[:0]
	for i, id := range e.Tokens {
		x := word(id)
		if e.LossMask[i] {
			x |= learnedBit
		}
		t.buf = binary.NativeEndian.AppendUint32(t.buf, x)
	}
	s := newSpan(t.n, len(e.Tokens))
	t.n += int64(len(e.Tokens))
	_, err := t.w.Write(t.buf)
	return s, err
}

// addLearned writes tokens that are all learned.
func (t *tokenWriter) addLearned(ids []int32) error {
	t.buf = t.buf[:0]
	for _, id := range ids {
		t.buf = binary.NativeEndian.AppendUint32(t.buf, word(id)|learnedBit)
	}
	t.n += int64(len(ids))
	_, err := t.w.Write(t.buf)
	return err
}

// numbers are what is stored as the machine has it.
type numbers interface{ ~uint32 | ~uint64 }

// bytesOf returns the memory of a list.
func bytesOf[T numbers](list []T) []byte {
	var x T
	return unsafe.Slice((*byte)(unsafe.Pointer(unsafe.SliceData(list))), len(list)*int(unsafe.Sizeof(x)))
}

// listOf returns bytes, which lie as a T may, as a list of T.
func listOf[T numbers](b []byte) []T {
	var x T
	return unsafe.Slice((*T)(unsafe.Pointer(unsafe.SliceData(b))), len(b)/int(unsafe.Sizeof(x)))
}
