package gguf

import (
	"bytes"
	"encoding/binary"
	"errors"
	"testing"
)

// FuzzDecode checks that no bytes make Decode panic, that every refusal is one of
// the three kinds, and that what is read can be written and read again: the second
// writing equals the first byte for byte.
func FuzzDecode(f *testing.F) {
	for _, order := range []binary.ByteOrder{binary.LittleEndian, binary.BigEndian} {
		f.Add(sample(order, 2))
		f.Add(sample(order, 3))
		f.Add(deepArray(order, maxNesting-1).Bytes())
		f.Add(newRaw(order, 1, 1).kv(keyAlignment, KindUint32, uint32(64)).tensor("scalar", TypeBF16, 64).padTo(64).padTo(256).Bytes())
		f.Add(newRaw(order, 1, 0).tensor("empty", TypeQ6_K, 0, 256, 0, 3).padTo(32).Bytes())
	}
	f.Fuzz(func(t *testing.T, file []byte) {
		first, err := decode(file)
		if err != nil {
			var format *FormatError
			var truncated *TruncatedError
			var unsupported *UnsupportedError
			if !errors.As(err, &format) && !errors.As(err, &truncated) && !errors.As(err, &unsupported) {
				t.Errorf("Decode = %v (%T), want one of the package's errors", err, err)
			}
			return
		}
		once, err := rewrite(first)
		var unsupported *UnsupportedError
		if errors.As(err, &unsupported) && first.ByteOrder() == binary.BigEndian {
			return // quantized big-endian data
		}
		if err != nil {
			t.Fatalf("writing what was read = %v, want no error", err)
		}
		second, err := decode(once)
		if err != nil {
			t.Fatalf("Decode of what was written = %v, want no error", err)
		}
		if len(second.KVs()) != len(first.KVs()) || len(second.Tensors()) != len(first.Tensors()) {
			t.Fatalf("%d keys and %d tensors, want %d and %d",
				len(second.KVs()), len(second.Tensors()), len(first.KVs()), len(first.Tensors()))
		}
		for _, tensor := range first.Tensors() {
			want, _ := first.Data(tensor.Name)
			if got, err := second.Data(tensor.Name); err != nil || !bytes.Equal(got, want) {
				t.Errorf("tensor %q: data changed, error %v", tensor.Name, err)
			}
		}
		twice, err := rewrite(second)
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(once, twice) {
			t.Errorf("second writing differs from the first:\n%q\n%q", twice, once)
		}
	})
}
