// Package safetensors reads and writes the files that PEFT and MLX keep adapters
// in (https://huggingface.co/docs/safetensors): eight bytes with the length of a
// JSON header, the header, then the tensors without gaps.
//
// The reader is strict, since the files come from elsewhere: it refuses a header
// longer than the file or than 100 MB, keys that come twice, tensors that
// overlap, leave gaps or end past the file, and what it does not know. It
// allocates nothing by a count that the file states. Refused too, as valid but
// not handled, are tensors of another type than F32, F16 and BF16.
//
//	f, err := safetensors.Open("adapter_model.safetensors")
//	defer f.Close()
//	for _, t := range f.Tensors() {
//		data, err := f.Data(t.Name)
//	}
//
// Shapes are row-major, the slowest dimension first, as the format has them.
package safetensors

import "fmt"

// DType is the type of a tensor's elements, by its name in the header.
type DType string

// The types that adapters are kept in, all little endian.
const (
	F32  DType = "F32"
	F16  DType = "F16"
	BF16 DType = "BF16"
)

// Size returns the bytes of an element, 0 for a type that is not handled.
func (d DType) Size() int64 {
	switch d {
	case F32:
		return 4
	case F16, BF16:
		return 2
	}
	return 0
}

// Tensor describes a tensor of a file.
type Tensor struct {
	Name  string
	DType DType
	Shape []int64 // slowest dimension first; none is a single number. Not to be changed

	offset int64 // from the end of the header
	bytes  int64
}

// Bytes returns the bytes that the tensor takes in the file.
func (t Tensor) Bytes() int64 { return t.bytes }

// A FormatError reports a file that is no safetensors file, or a damaged one.
type FormatError struct {
	Path string // empty when it was not opened by path
	Msg  string
}

func (e *FormatError) Error() string { return message(e.Path, e.Msg) }

// An UnsupportedError reports a valid file that this package does not handle.
type UnsupportedError struct {
	Path string
	Msg  string
}

func (e *UnsupportedError) Error() string { return message(e.Path, e.Msg) }

func message(path, msg string) string {
	if path == "" {
		return "safetensors: " + msg
	}
	return fmt.Sprintf("safetensors: %q: %s", path, msg)
}

func formatErr(format string, args ...any) error {
	return &FormatError{Msg: fmt.Sprintf(format, args...)}
}

func unsupportedErr(format string, args ...any) error {
	return &UnsupportedError{Msg: fmt.Sprintf(format, args...)}
}

// withPath names the file in an error of this package.
func withPath(err error, path string) error {
	switch e := err.(type) {
	case *FormatError:
		e.Path = path
	case *UnsupportedError:
		e.Path = path
	}
	return err
}
