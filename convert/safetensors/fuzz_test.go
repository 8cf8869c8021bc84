package safetensors

import (
	"bytes"
	"errors"
	"testing"
)

// FuzzDecode checks that no bytes make Decode panic, that every refusal is one of
// the package's kinds, and that what is read can be written and read again: the
// second writing equals the first byte for byte.
func FuzzDecode(f *testing.F) {
	f.Add(file(sample, 32))
	f.Add(file(`{}`, 0))
	f.Add(file(`{"__metadata__":{}}     `, 0))
	f.Add(file(`{"x":{"dtype":"F64","shape":[1],"data_offsets":[0,8]}}`, 8))
	f.Fuzz(func(t *testing.T, raw []byte) {
		first, err := decode(raw)
		if err != nil {
			var format *FormatError
			var unsupported *UnsupportedError
			if !errors.As(err, &format) && !errors.As(err, &unsupported) {
				t.Errorf("Decode = %v (%T), want one of the package's errors", err, err)
			}
			return
		}
		once, err := rewrite(first)
		if err != nil {
			t.Fatalf("writing what was read = %v, want no error", err)
		}
		second, err := decode(once)
		if err != nil {
			t.Fatalf("Decode of what was written = %v, want no error", err)
		}
		for _, tensor := range first.Tensors() {
			want, _ := first.Data(tensor.Name)
			if got, err := second.Data(tensor.Name); err != nil || !bytes.Equal(got, want) {
				t.Errorf("tensor %q: data changed, error %v", tensor.Name, err)
			}
		}
		twice, err := rewrite(second)
		if err != nil || !bytes.Equal(once, twice) {
			t.Errorf("second writing differs from the first, error %v:\n%q\n%q", err, twice, once)
		}
	})
}
