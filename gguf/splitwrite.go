package gguf

import (
	"fmt"
	"io"
	"strings"

	"finetune/internal/atomicfile"
)

// WriteSplit writes the file as the parts of a split model, as llama.cpp's gguf-split
// does: the keys in the first one, then the tensors in their order, as many in each
// part as keep it within maxBytes. A tensor that is larger has a part of its own, which
// is larger too. The parts of m.gguf are m-00001-of-0000N.gguf and so on; what fits in
// one is m.gguf itself. It returns the paths of what was written, the one to open first.
//
// All parts appear or none, as far as the file system can do that, see
// [atomicfile.WriteAll].
func (b *Builder) WriteSplit(path string, maxBytes int64) (paths []string, err error) {
	parts, err := b.parts(maxBytes)
	if err != nil {
		return nil, err
	}
	paths = splitPaths(path, len(parts))
	return paths, atomicfile.WriteAll(paths, func(i int, w io.Writer) error {
		_, err := b.write(w, parts[i].kvs, parts[i].from, parts[i].to)
		return err
	})
}

// SplitPaths returns the paths that WriteSplit would write.
func (b *Builder) SplitPaths(path string, maxBytes int64) ([]string, error) {
	parts, err := b.parts(maxBytes)
	return splitPaths(path, len(parts)), err
}

// partPlan is one part: its keys, and its tensors from index from to to-1.
type partPlan struct {
	kvs      []KV
	from, to int
}

// maxParts is what the uint16 of split.count has room for.
const maxParts = 1<<16 - 1

// parts shares the tensors out.
func (b *Builder) parts(maxBytes int64) ([]partPlan, error) {
	if b.err != nil {
		return nil, b.err
	}
	whole := []partPlan{{b.kvs, 0, len(b.tensors)}}
	if b.room(b.kvs).with(b.tensors...).bytes() <= maxBytes {
		return whole, nil
	}
	var parts []partPlan
	for from := 0; from < len(b.tensors); {
		to := from + 1
		taken := b.room(b.partKeys(len(parts), 0)).with(b.tensors[from])
		for to < len(b.tensors) && taken.with(b.tensors[to]).bytes() <= maxBytes {
			taken = taken.with(b.tensors[to])
			to++
		}
		parts = append(parts, partPlan{from: from, to: to})
		from = to
	}
	switch {
	case len(parts) > maxParts:
		return nil, fmt.Errorf("gguf: parts of %d bytes: the file would have %d of them, want at most %d", maxBytes, len(parts), maxParts)
	case len(parts) < 2:
		return whole, nil // a tensor that is too large by itself, or none
	}
	for i := range parts {
		parts[i].kvs = b.partKeys(i, len(parts))
	}
	return parts, nil
}

// partKeys returns the keys of part no, from 0 on, of count parts, with the kinds that
// gguf-split gives them. The alignment is said in each part, as each has its own.
func (b *Builder) partKeys(no, count int) []KV {
	var kvs []KV
	for _, kv := range b.kvs {
		if (no == 0 || kv.Key == keyAlignment) && !strings.HasPrefix(kv.Key, splitPrefix) {
			kvs = append(kvs, kv)
		}
	}
	return append(kvs, KV{keySplitNo, uint16(no)}, KV{keySplitCount, uint16(count)}, KV{keySplitTensors, int32(len(b.tensors))})
}

// room is what a file takes: its header without the padding, its padded data.
type room struct{ header, data, alignment int64 }

// room returns the bytes that a file with the given keys and no tensors takes.
func (b *Builder) room(kvs []KV) room {
	e := &encoder{w: io.Discard, alignment: 1}
	e.header(kvs, nil)
	return room{header: e.n, alignment: b.alignment()}
}

// with returns the bytes with more tensors in the file.
func (r room) with(tensors ...Tensor) room {
	const fixed = 8 + 4 + 4 + 8 // length of the name, dimensions, type, offset
	for _, t := range tensors {
		r.header += fixed + int64(len(t.Name)+8*len(t.Shape))
		r.data += pad(t.Bytes(), r.alignment)
	}
	return r
}

func (r room) bytes() int64 { return pad(r.header, r.alignment) + r.data }

// splitPaths names count parts of the model at path, which may be named as a first part.
func splitPaths(path string, count int) []string {
	prefix := strings.TrimSuffix(path, ".gguf")
	if m := splitName.FindStringSubmatch(path); m != nil {
		prefix = m[1]
	}
	if count == 1 {
		return []string{path}
	}
	var paths []string
	for i := range count {
		paths = append(paths, splitPath(prefix, i, count))
	}
	return paths
}

// splitPath returns the name of part no, from 0 on, of count parts.
func splitPath(prefix string, no, count int) string {
	return fmt.Sprintf("%s-%05d-of-%05d.gguf", prefix, no+1, count)
}
