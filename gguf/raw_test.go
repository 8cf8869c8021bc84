package gguf

import (
	"bytes"
	"encoding/binary"
)

// raw writes GGUF files by hand, number by number as the specification lists them,
// so that the reader is checked against the specification and not against the writer.
type raw struct {
	bytes.Buffer
	order binary.ByteOrder
}

// newRaw begins a file of version 3.
func newRaw(order binary.ByteOrder, tensors, kvs uint64) *raw {
	return newRawVersion(order, 3, tensors, kvs)
}

func newRawVersion(order binary.ByteOrder, version uint32, tensors, kvs uint64) *raw {
	r := &raw{order: order}
	r.WriteString("GGUF")
	return r.num(version).num(tensors).num(kvs)
}

func (r *raw) num(v any) *raw {
	binary.Write(&r.Buffer, r.order, v)
	return r
}

func (r *raw) str(s string) *raw {
	r.num(uint64(len(s)))
	r.WriteString(s)
	return r
}

// kv writes a key and a value of fixed width.
func (r *raw) kv(key string, kind Kind, v any) *raw {
	return r.str(key).num(uint32(kind)).num(v)
}

// arr begins an array value.
func (r *raw) arr(key string, kind Kind, count uint64) *raw {
	return r.str(key).num(uint32(KindArray)).num(uint32(kind)).num(count)
}

// tensor describes a tensor.
func (r *raw) tensor(name string, typ Type, offset uint64, shape ...uint64) *raw {
	r.str(name).num(uint32(len(shape)))
	for _, ne := range shape {
		r.num(ne)
	}
	return r.num(uint32(typ)).num(offset)
}

func (r *raw) padTo(alignment int) *raw {
	for r.Len()%alignment != 0 {
		r.WriteByte(0)
	}
	return r
}

// sample is a small file with every kind of value and two tensors:
// "a" of f32 [3, 2] and "b" of q8_0 [32].
func sample(order binary.ByteOrder, version uint32) []byte {
	r := newRawVersion(order, version, 2, 17)
	r.str("general.architecture").num(uint32(KindString)).str("llama")
	r.kv("u8", KindUint8, uint8(200)).kv("i8", KindInt8, int8(-100))
	r.kv("u16", KindUint16, uint16(60000)).kv("i16", KindInt16, int16(-30000))
	r.kv("u32", KindUint32, uint32(4e9)).kv("i32", KindInt32, int32(-2e9))
	r.kv("u64", KindUint64, uint64(18e18)).kv("i64", KindInt64, int64(-9e18))
	r.kv("f32", KindFloat32, float32(0.5)).kv("f64", KindFloat64, 0.25)
	r.kv("yes", KindBool, true)
	r.arr("names", KindString, 2).str("x").str("")
	r.arr("scores", KindFloat32, 3).num([]float32{1, 2, 3})
	r.arr("flags", KindBool, 2).num([]bool{true, false})
	r.arr("nested", KindArray, 2)
	r.num(uint32(KindInt32)).num(uint64(2)).num([]int32{7, 8})
	r.num(uint32(KindString)).num(uint64(1)).str("in")
	r.arr("none", KindUint16, 0)
	r.tensor("a", TypeF32, 0, 3, 2).tensor("b", TypeQ8_0, 32, 32)
	r.padTo(32).num([]float32{1, 2, 3, 4, 5, 6}).padTo(32)
	r.num(make([]byte, 34))
	return r.Bytes()
}
