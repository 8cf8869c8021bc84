package hostile

import (
	"encoding/binary"
	"math"
	"math/rand/v2"
	"slices"
	"strings"

	"finetune/gguf"
)

// Mutations of what a header says of tensors, and of their data.

func setDimension(r *rand.Rand, f *rawFile) string {
	if len(f.tensors) == 0 {
		return ""
	}
	t := &f.tensors[r.IntN(len(f.tensors))]
	switch r.IntN(6) {
	case 0:
		t.dims = append(t.dims, uint64(pick(r, []int64{1, 1, 2, 0})))
	case 1:
		if len(t.dims) > 1 {
			t.dims = t.dims[:len(t.dims)-1]
		}
	case 2:
		slices.Reverse(t.dims)
	default:
		if len(t.dims) == 0 {
			return ""
		}
		i := r.IntN(len(t.dims))
		t.dims[i] = binary.LittleEndian.Uint64(number(r, gguf.KindUint64, binary.LittleEndian.AppendUint64(nil, t.dims[i])))
	}
	t.fit()
	return "shape of " + t.name
}

// resize changes a dimension wherever it appears, in tensors and keys, so that the file agrees with itself.
func resize(r *rand.Rand, f *rawFile) string {
	if len(f.tensors) == 0 {
		return ""
	}
	t := f.tensors[r.IntN(len(f.tensors))]
	if len(t.dims) == 0 {
		return ""
	}
	old, now := pick(r, t.dims), uint64(pick(r, []int64{1, 2, 3, 5, 8, 16, 30, 32, 33, 48, 62, 64, 65, 96, 128, 256}))
	for i := range f.tensors {
		for j, d := range f.tensors[i].dims {
			if d == old {
				f.tensors[i].dims[j] = now
			}
		}
		f.tensors[i].fit()
	}
	for i, k := range f.keys {
		if k.kind == gguf.KindUint32 && uint64(binary.LittleEndian.Uint32(k.value)) == old {
			f.keys[i].value = binary.LittleEndian.AppendUint32(nil, uint32(now))
		}
	}
	return "all of one width"
}

func setType(r *rand.Rand, f *rawFile) string {
	if len(f.tensors) == 0 {
		return ""
	}
	t := &f.tensors[r.IntN(len(f.tensors))]
	for range 20 {
		t.kind = uint32(pick(r, gguf.Types()))
		if _, ok := t.bytes(); ok {
			break
		}
	}
	if r.IntN(16) == 0 {
		t.kind = uint32(pick(r, []int{4, 5, 31, 36, 45, 64, 255, 1 << 30, -1}))
	}
	t.fit()
	return "type of " + t.name
}

func renameTensor(r *rand.Rand, f *rawFile) string {
	if len(f.tensors) == 0 {
		return ""
	}
	t := &f.tensors[r.IntN(len(f.tensors))]
	old := t.name
	switch r.IntN(8) {
	case 0:
		t.name = f.tensors[r.IntN(len(f.tensors))].name
	case 1:
		t.name = strings.Replace(t.name, ".weight", ".bias", 1)
	case 2, 3:
		t.name = strings.Replace(t.name, "blk.0", "blk."+pick(r, []string{"1", "7", "-1", "99999999999"}), 1)
	case 4:
		t.name = pick(r, texts)
		t.name = t.name[:min(len(t.name), 100)]
	default: // one that some architecture has
		begin, _, _ := strings.Cut(t.name, ".")
		if begin == "blk" {
			begin = t.name[:strings.Index(t.name[4:], ".")+4]
		}
		t.name = begin + "." + pick(r, knownTensors) + pick(r, []string{".weight", ".bias", ""})
	}
	return "name of " + old
}

func dropTensor(r *rand.Rand, f *rawFile) string {
	if len(f.tensors) == 0 {
		return ""
	}
	i := r.IntN(len(f.tensors))
	name := f.tensors[i].name
	f.tensors = slices.Delete(f.tensors, i, i+1)
	return "no " + name
}

func swapTensors(r *rand.Rand, f *rawFile) string {
	if len(f.tensors) == 0 {
		return ""
	}
	a, b := &f.tensors[r.IntN(len(f.tensors))], &f.tensors[r.IntN(len(f.tensors))]
	a.name, b.name = b.name, a.name
	return a.name + " for " + b.name
}

func shiftData(r *rand.Rand, f *rawFile) string {
	if len(f.tensors) == 0 {
		return ""
	}
	t := &f.tensors[r.IntN(len(f.tensors))]
	t.shift = pick(r, []int64{1, -1, 4, 32, -32, 4096, 1 << 30, 1 << 40, math.MinInt64})
	return "place of " + t.name
}

func damageData(r *rand.Rand, f *rawFile) string {
	if len(f.tensors) == 0 {
		return ""
	}
	t := &f.tensors[r.IntN(len(f.tensors))]
	if len(t.data) == 0 {
		return ""
	}
	pattern := pick(r, [][]byte{{0}, {0xff}, {0, 0, 0x80, 0x7f}, {0, 0, 0xc0, 0x7f}, {0, 0x7c}, {0, 0x7e}, {0xff, 0xff, 0x7f, 0x7f}, {1, 0, 0, 0}, {0x80}})
	begin, n := r.IntN(len(t.data)), 1+r.IntN(pick(r, []int{4, 64, len(t.data)}))
	begin -= begin % len(pattern)
	for i := begin; i < min(begin+n, len(t.data)); i++ {
		if t.data[i] = pattern[(i-begin)%len(pattern)]; len(pattern) == 1 && pattern[0] == 0x80 {
			t.data[i] = byte(r.Uint32())
		}
	}
	return "data of " + t.name
}

func lie(r *rand.Rand, f *rawFile) string {
	n := pick(r, []int64{-1, 1, 1000, 1 << 31, 1 << 62, math.MinInt64})
	if r.IntN(2) == 0 {
		f.lieKeys = n
	} else {
		f.lieCount = n
	}
	return "wrong count"
}
