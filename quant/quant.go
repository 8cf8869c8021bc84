// Package quant converts between float32 and every ggml tensor type, with ggml's
// own kernels, and says what a conversion costs in accuracy. Package quant/plain
// has the few types of adapters without native code.
//
// Refused are the integer types, F64, and q8_1 and q8_K, in which ggml keeps
// activations for a moment and of which no file is made.
//
//	weights := make([]float32, t.Elements())
//	err := quant.Decode(t.Type, data, weights)
//	data, err = quant.Encode(gguf.TypeQ4_K, weights, int(t.Shape[0]), nil)
//
// All functions may be called by several goroutines at once; Decode and Encode
// keep every core busy themselves.
package quant

import (
	"fmt"
	"math"
	"runtime"
	"slices"
	"sync"

	"github.com/go-skynet/go-llama.cpp/ggml"

	"finetune/gguf"
)

// CanDecode reports whether Decode takes type t.
func CanDecode(t gguf.Type) bool { return ggml.Type(t).CanDequantize() }

// CanEncode reports whether Encode takes type t, if need be with an importance.
// What cannot be decoded is not encoded: ggml ends the process for some of it.
func CanEncode(t gguf.Type) bool {
	return CanDecode(t) && (NeedsImportance(t) || ggml.Type(t).CanQuantize())
}

// NeedsImportance reports true for the types of one and two bits that ggml encodes only
// with the importance of each column.
func NeedsImportance(t gguf.Type) bool {
	switch t {
	case gguf.TypeIQ2_XXS, gguf.TypeIQ2_XS, gguf.TypeIQ1_S, gguf.TypeIQ1_M:
		return true
	}
	return false
}

// Types returns the types that can be encoded, by rising id.
func Types() []gguf.Type {
	return slices.DeleteFunc(gguf.Types(), func(t gguf.Type) bool { return !CanEncode(t) })
}

// Decode reads len(dst) elements of type t from src. The elements have to be whole
// blocks and src has to have exactly their bytes.
func Decode(t gguf.Type, src []byte, dst []float32) error {
	if !CanDecode(t) {
		return fmt.Errorf("quant: type %s: cannot be decoded", t)
	}
	want, err := t.RowBytes(int64(len(dst)))
	if err != nil {
		return err
	}
	if want != int64(len(src)) {
		return fmt.Errorf("quant: %d elements of %s are %d bytes, got %d", len(dst), t, want, len(src))
	}
	n, bytes := t.BlockSize(), t.BlockBytes()
	return parallel(len(dst)/n, pieceElements/n, func(i, j int) error {
		return ggml.Dequantize(ggml.Type(t), src[i*bytes:j*bytes], dst[i*n:j*n])
	})
}

// Encode turns src, rows of nPerRow elements, into type t. A row has to be whole
// blocks. importance, one number of 0 or more for each column, weights the errors
// that the encoder trades against each other; nil treats all alike, see
// [NeedsImportance]. A value that is not finite is an error.
func Encode(t gguf.Type, src []float32, nPerRow int, importance []float32) ([]byte, error) {
	if err := checkEncode(t, src, nPerRow, importance); err != nil {
		return nil, err
	}
	row, err := t.RowBytes(int64(nPerRow))
	if err != nil {
		return nil, err
	}
	if importance != nil {
		if importance = levelled(importance); importance == nil && NeedsImportance(t) {
			importance = slices.Repeat([]float32{1}, nPerRow)
		}
	}
	rows := len(src) / nPerRow
	dst := make([]byte, int64(rows)*row)
	err = parallel(rows, max(1, pieceElements/nPerRow), func(i, j int) error {
		data, err := ggml.Quantize(ggml.Type(t), withoutDust(t, src[i*nPerRow:j*nPerRow]), nPerRow, importance)
		copy(dst[int64(i)*row:], data)
		return err
	})
	if err != nil {
		return nil, err
	}
	return dst, nil
}

// checkEncode refuses what ggml would end the process for.
func checkEncode(t gguf.Type, src []float32, nPerRow int, importance []float32) error {
	switch {
	case !CanEncode(t):
		return fmt.Errorf("quant: type %s: cannot be encoded", t)
	case NeedsImportance(t) && importance == nil:
		return fmt.Errorf("quant: type %s: needs an importance matrix", t)
	case nPerRow <= 0 || len(src)%nPerRow != 0:
		return fmt.Errorf("quant: %d elements are not whole rows of %d", len(src), nPerRow)
	case importance != nil && len(importance) != nPerRow:
		return fmt.Errorf("quant: importance of %d columns, want %d", len(importance), nPerRow)
	}
	for i, v := range importance {
		if !(v >= 0) || math.IsInf(float64(v), 0) {
			return fmt.Errorf("quant: importance of column %d is %v", i, v)
		}
	}
	for i, v := range src {
		if math.Abs(float64(v)) <= math.MaxFloat32 {
			continue
		}
		return fmt.Errorf("quant: element %d is %v", i, v)
	}
	return checkGrid(t, src)
}

// pieceElements is the work of one goroutine at a time: a millisecond or so for
// the slow encoders, a copy out of the cache for the fast decoders.
const pieceElements = 1 << 16

// parallel calls do for pieces [i, j) that cover [0, n), and returns the error of
// the first piece that has one.
func parallel(n, piece int, do func(i, j int) error) error {
	pieces := (n + piece - 1) / piece
	errs := make([]error, pieces)
	next := make(chan int)
	var wg sync.WaitGroup
	for range min(pieces, runtime.GOMAXPROCS(0)) {
		wg.Go(func() {
			for p := range next {
				errs[p] = do(p*piece, min((p+1)*piece, n))
			}
		})
	}
	for p := range pieces {
		next <- p
	}
	close(next)
	wg.Wait()
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}
