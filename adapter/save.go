package adapter

import (
	"fmt"
	"io"
	"maps"
	"slices"

	"finetune/gguf"
	"finetune/quant/plain"
)

// reserved reports whether a key is written from the fields of an [Adapter].
func reserved(key string) bool {
	for _, k := range fileKinds {
		if key == k.alphaKey {
			return true
		}
	}
	return slices.Contains([]string{KeyType, KeyArchitecture, KeyKind, KeyRank, KeyBaseName, KeyBaseHash}, key)
}

// Save writes the adapter to path, whole or not at all, with factors in F32.
// A LoRA becomes a GGUF LoRA, which llama.cpp loads as it is. Other factors become
// a container of our own with an adapter.type of its own, such as "dual_lora", by
// which llama.cpp refuses it. Saving what [Load] returned gives the same bytes again.
func (a *Adapter) Save(path string) error {
	if a.Method() == MethodLoRA {
		return a.WriteLoRA(path, LoRAOptions{})
	}
	w, err := a.newWriter(a.Method(), gguf.TypeF32, a.Alpha(), a.Rank())
	if err != nil {
		return err
	}
	for _, weight := range a.Weights {
		if weight.Method() != a.Method() {
			return fmt.Errorf("adapter: tensor %q: method %s, the first weight's %s: one file has one method", weight.Name, weight.Method(), a.Method())
		}
		if weight.alpha() != a.Alpha() {
			return fmt.Errorf("adapter: tensor %q: alpha is %v, the first weight's %v: one file has one alpha", weight.Name, weight.alpha(), a.Alpha())
		}
		for _, m := range weight.Matrices() {
			w.mat(weight.Name+"."+m.Suffix, m.Mat, 1)
		}
	}
	return w.WriteFile(path)
}

// Storable reports whether the factors of a LoRA can be written in a type: F32, F16, BF16 and Q8_0.
func Storable(t gguf.Type) bool { return plain.Supports(t) }

// writer adds the keys and the factors of an adapter to a GGUF.
type writer struct {
	*gguf.Builder
	t    gguf.Type
	room *room
}

// room is the memory in which rows are made and encoded, one tensor after the other.
type room struct {
	tile []float32
	data []byte
}

// newWriter starts a file of the kind of method m.
func (a *Adapter) newWriter(m Method, t gguf.Type, alpha float32, rank int) (writer, error) {
	if a.Architecture == "" || len(a.Weights) == 0 {
		return writer{}, fmt.Errorf("adapter: architecture %q with %d weights: want both to write a file", a.Architecture, len(a.Weights))
	}
	if !Storable(t) {
		return writer{}, fmt.Errorf("adapter: type %s: want f32, f16, bf16 or q8_0", t)
	}
	row, err := m.row()
	if err != nil {
		return writer{}, err
	}
	b := gguf.NewBuilder()
	b.Set(KeyType, "adapter")
	b.Set(KeyArchitecture, a.Architecture)
	b.Set(KeyKind, row.kind.name)
	b.Set(row.kind.alphaKey, alpha) // a float32: llama.cpp reads no other kind
	b.Set(KeyMethod, string(a.Method()))
	b.Set(KeyRank, uint32(rank))
	b.Set(KeyBaseName, a.BaseName)
	b.Set(KeyBaseHash, a.BaseHash)
	for _, key := range slices.Sorted(maps.Keys(a.Meta)) {
		if !reserved(key) {
			b.Set(key, a.Meta[key])
		}
	}
	return writer{b, t, new(room)}, b.Err()
}

func (w writer) typeFor(row int) gguf.Type { return typeFor(w.t, row) }

// typeFor returns the file's type t where a row is a whole number of its blocks, else F16.
func typeFor(t gguf.Type, row int) gguf.Type {
	if row%t.BlockSize() != 0 {
		return gguf.TypeF16
	}
	return t
}

// mat adds scale·m.
func (w writer) mat(name string, m Mat, scale float32) {
	w.tiled(name, w.typeFor(m.NE[0]), m.NE, func(dst []float32, row0, row1 int) {
		for i, v := range m.Data[row0*m.NE[0] : row1*m.NE[0]] {
			dst[i] = scale * v
		}
	})
}

// tiled adds a tensor [n, m] whose rows are made a tile at a time, when the file
// is written.
func (w writer) tiled(name string, t gguf.Type, ne [2]int, rows func(dst []float32, row0, row1 int)) {
	shape := []int64{int64(ne[0]), int64(ne[1])}
	w.AddTensorFunc(name, t, shape, func(out io.Writer) error {
		w.room.tile = slices.Grow(w.room.tile[:0], ne[0]*min(tileRows, ne[1]))
		for row0 := 0; row0 < ne[1]; row0 += tileRows {
			row1 := min(row0+tileRows, ne[1])
			part := w.room.tile[:(row1-row0)*ne[0]]
			rows(part, row0, row1)
			if i, bad := firstNotFinite(part); bad {
				return fmt.Errorf("element %d is %v", row0*ne[0]+i, part[i])
			}
			var err error
			if w.room.data, err = plain.Append(w.room.data[:0], t, part); err != nil {
				return err
			}
			if _, err := out.Write(w.room.data); err != nil {
				return err
			}
		}
		return nil
	})
}
