package graph

import "github.com/go-skynet/go-llama.cpp/ggml"

// mirror is what a tensor holds, in host memory: the tensor's own memory where that is the host's, else a copy of it.
type mirror[T float32 | int32] struct {
	tensor  ggml.Tensor
	data    []T  // all elements
	apart   bool // push and pull have something to do
	inStore bool // the store does it, for all that it has
}

// mirrorOf returns the mirror of an F32 or I32 tensor that has memory, apart from it in any case where that is asked. What a
// copy holds is undefined until it is written or pulled.
func mirrorOf[T float32 | int32](t ggml.Tensor, apart bool) mirror[T] {
	m := mirror[T]{tensor: t, apart: apart || !t.OnHost()}
	if m.apart {
		m.data = make([]T, t.Elements())
		return m
	}
	switch data := any(&m.data).(type) {
	case *[]float32:
		*data = t.Floats()
	case *[]int32:
		*data = t.Ints()
	}
	return m
}

// push brings what was written into the mirror to the tensor, pull what was computed there into the mirror.
func (m *mirror[T]) push(b *bus) {
	if !m.apart {
		return
	}
	switch data := any(m.data).(type) {
	case []float32:
		b.note(m.tensor.Bytes(), m.tensor.SetFloats(data))
	case []int32:
		b.note(m.tensor.Bytes(), m.tensor.SetInts(data))
	}
}

func (m *mirror[T]) pull(b *bus) {
	if data, ok := any(m.data).([]float32); ok && m.apart {
		b.note(m.tensor.Bytes(), m.tensor.GetFloats(data))
	}
}

// multiply multiplies what the mirror holds, where it is no tensor's own memory.
func (m *mirror[T]) multiply(times T) {
	if (m.apart || m.inStore) && times != 1 {
		for i := range m.data {
			m.data[i] *= times
		}
	}
}
