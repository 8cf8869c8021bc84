package convert

import (
	"bytes"
	"fmt"
	"math"

	"finetune/gguf"
	"finetune/quant/plain"
)

// matrix is a factor in the layout of PEFT: rows of cols elements, row after row.
// It is a recipe: read fetches and arranges the numbers each time, so that of an
// adapter of any size little is in memory. What only moves elements works on their
// bytes, and so is exact for every type.
type matrix struct {
	typ        gguf.Type // F32, F16 or BF16
	rows, cols int
	read       func() ([]byte, error) // not to be changed by the caller
}

func (m matrix) size() int { return m.typ.BlockBytes() }

// map1 returns a matrix that is made of the bytes of m.
func (m matrix) map1(rows, cols int, f func(src []byte) []byte) matrix {
	read := m.read
	return matrix{m.typ, rows, cols, func() ([]byte, error) {
		src, err := read()
		if err != nil {
			return nil, err
		}
		return f(src), nil
	}}
}

func (m matrix) transposed() matrix {
	return m.map1(m.cols, m.rows, func(src []byte) []byte {
		dst, size := make([]byte, len(src)), m.size()
		for i := range m.rows {
			for j := range m.cols {
				copy(dst[(j*m.rows+i)*size:][:size], src[(i*m.cols+j)*size:])
			}
		}
		return dst
	})
}

// pickRows returns a matrix with row rows[i] of m as row i, zeros for -1. Nil is m
// itself.
func (m matrix) pickRows(rows []int) matrix {
	if rows == nil {
		return m
	}
	return m.map1(len(rows), m.cols, func(src []byte) []byte {
		n := m.cols * m.size()
		dst := make([]byte, len(rows)*n)
		for i, row := range rows {
			if row >= 0 {
				copy(dst[i*n:][:n], src[row*n:])
			}
		}
		return dst
	})
}

// pickColumns returns a matrix with column columns[j] of m as column j, zeros for -1.
// Nil is m itself.
func (m matrix) pickColumns(columns []int) matrix {
	if columns == nil {
		return m
	}
	return m.map1(m.rows, len(columns), func(src []byte) []byte {
		size := m.size()
		dst := make([]byte, m.rows*len(columns)*size)
		for i := range m.rows {
			for j, column := range columns {
				if column >= 0 {
					copy(dst[(i*len(columns)+j)*size:][:size], src[(i*m.cols+column)*size:])
				}
			}
		}
		return dst
	})
}

// stacked returns a matrix with the rows of all, which are of one type and width.
func stacked(ms []matrix) matrix {
	if len(ms) == 1 {
		return ms[0]
	}
	all := matrix{typ: ms[0].typ, cols: ms[0].cols}
	for _, m := range ms {
		if m.typ != all.typ || m.cols != all.cols {
			panic(fmt.Sprintf("convert: internal error: %s of %d columns stacked on %s of %d", m.typ, m.cols, all.typ, all.cols))
		}
		all.rows += m.rows
	}
	all.read = func() ([]byte, error) {
		var dst []byte
		for _, m := range ms {
			src, err := m.read()
			if err != nil {
				return nil, err
			}
			dst = append(dst, src...)
		}
		return dst, nil
	}
	return all
}

// zeros returns a matrix [rows][cols] of zeros.
func zeros(typ gguf.Type, rows, cols int) matrix {
	return matrix{typ, rows, cols, func() ([]byte, error) { return make([]byte, rows*cols*typ.BlockBytes()), nil }}
}

// floats decodes the elements.
func (m matrix) floats() ([]float32, error) {
	src, err := m.read()
	if err != nil {
		return nil, err
	}
	v := make([]float32, m.rows*m.cols)
	return v, plain.Decode(m.typ, src, v)
}

// asF32 returns m in F32, which holds every number of the other types.
func (m matrix) asF32() matrix {
	if m.typ == gguf.TypeF32 {
		return m
	}
	return m.scaled(1)
}

// scaled returns f·m in F32, each element rounded once: exact for a power of two.
func (m matrix) scaled(f float64) matrix {
	return matrix{gguf.TypeF32, m.rows, m.cols, func() ([]byte, error) {
		v, err := m.floats()
		if err != nil {
			return nil, err
		}
		for i, x := range v {
			v[i] = float32(f * float64(x))
			if math.IsInf(float64(v[i]), 0) {
				return nil, fmt.Errorf("%g times %g is too large for F32", f, x)
			}
		}
		return plain.Append(nil, gguf.TypeF32, v)
	}}
}

// sameType makes all F32 unless they are of one type.
func sameType(ms []matrix) []matrix {
	for _, m := range ms {
		if m.typ != ms[0].typ {
			var all []matrix
			for _, m := range ms {
				all = append(all, m.asF32())
			}
			return all
		}
	}
	return ms
}

// equal reports whether both have the same elements, to the bit.
func (m matrix) equal(o matrix) (bool, error) {
	if m.typ != o.typ || m.rows != o.rows || m.cols != o.cols {
		return false, nil
	}
	a, err := m.read()
	if err != nil {
		return false, err
	}
	b, err := o.read()
	return bytes.Equal(a, b), err
}

// checkFinite reads a matrix of a file and reports the first element that is no
// number.
func (m matrix) checkFinite(path, tensor string) error {
	data, err := m.read()
	if err != nil {
		return err
	}
	exponent := map[gguf.Type]uint32{gguf.TypeF32: 0x7f800000, gguf.TypeF16: 0x7c00, gguf.TypeBF16: 0x7f80}[m.typ]
	size := m.size()
	for i := 0; i+size <= len(data); i += size {
		bits := uint32(data[i+size-1])<<8 | uint32(data[i+size-2])
		if size == 4 {
			bits <<= 16
		}
		if bits&exponent == exponent {
			var v [1]float32
			if err := plain.Decode(m.typ, data[i:i+size], v[:]); err != nil {
				return err
			}
			return &FormatError{path, fmt.Sprintf("tensor %q: element %d is %v", tensor, i/size, v[0])}
		}
	}
	return nil
}
