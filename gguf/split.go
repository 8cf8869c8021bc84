package gguf

import (
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// Keys of the parts of a split model: the number of the part from 0 on, the number
// of parts, and the number of tensors in all parts together.
const (
	keySplitNo      = "split.no"
	keySplitCount   = "split.count"
	keySplitTensors = "split.tensors.count"
	splitPrefix     = "split."
)

var splitName = regexp.MustCompile(`^(.*)-(\d{5})-of-(\d{5})\.gguf$`)

// openSiblings opens the other parts of the model that first belongs to, and
// returns all parts in order; just first if it is not split. On failure it has
// closed them all.
func openSiblings(first *part) (parts []*part, err error) {
	parts = []*part{first}
	defer func() {
		if err != nil {
			for _, p := range parts {
				p.close()
			}
			parts = nil
		}
	}()
	count, err := first.splitNumber(keySplitCount, 1)
	switch {
	case err != nil:
		return parts, err
	case count < 1:
		return parts, first.format("key %q: want 1 part or more, got %d", keySplitCount, count)
	case count == 1:
		return parts, nil
	}
	prefix, err := first.checkFirst(count)
	if err != nil {
		return parts, err
	}
	for i := int64(1); i < count; i++ {
		p, err := openPart(splitPath(prefix, int(i), int(count)))
		if err != nil {
			return parts, err
		}
		parts = append(parts, p)
		if err := p.checkNumber(i, count); err != nil {
			return parts, err
		}
	}
	return parts, nil
}

// checkFirst checks that p is the first of count parts, by its keys and its name,
// and returns what the names of all parts begin with.
func (p *part) checkFirst(count int64) (prefix string, err error) {
	m := splitName.FindStringSubmatch(p.path)
	if m == nil {
		return "", p.unsupported("one of %d parts of a model, but its name does not end in -00001-of-%05d.gguf", count, count)
	}
	if named, _ := strconv.ParseInt(m[3], 10, 64); named != count {
		return "", p.format("named as one of %d parts, but key %q says %d", named, keySplitCount, count)
	}
	no, err := p.splitNumber(keySplitNo, 0)
	switch {
	case err != nil:
		return "", err
	case no != 0:
		return "", p.unsupported("part %d of %d; open the first one, %q", no+1, count, splitPath(m[1], 0, int(count)))
	case m[2] != "00001":
		return "", p.format("named as part %s, but key %q says it is the first", m[2], keySplitNo)
	}
	return m[1], nil
}

// checkNumber checks that p is part no, from 0 on, of count parts.
func (p *part) checkNumber(no, count int64) error {
	gotNo, err := p.splitNumber(keySplitNo, -1)
	if err != nil {
		return err
	}
	gotCount, err := p.splitNumber(keySplitCount, -1)
	if err != nil {
		return err
	}
	if gotNo != no || gotCount != count {
		return p.format("keys %q and %q say %d and %d, want %d and %d", keySplitNo, keySplitCount, gotNo, gotCount, no, count)
	}
	return nil
}

// splitNumber returns the whole number of a split.* key, or missing.
func (p *part) splitNumber(key string, missing int64) (int64, error) {
	i, ok := p.head.index[key]
	if !ok {
		return missing, nil
	}
	n, ok := asInt(p.head.kvs[i].Value)
	if !ok {
		return 0, p.format("key %q: a %s, want a whole number", key, kindName(p.head.kvs[i].Value))
	}
	return n, nil
}

func (p *part) format(format string, args ...any) error {
	return withPath(formatErr(format, args...), p.path)
}

func (p *part) unsupported(format string, args ...any) error {
	return withPath(unsupportedErr(format, args...), p.path)
}

// joinSplit checks the tensors of all parts against each other and against their
// promised number, and drops the split.* keys, which describe the parts only.
func (f *File) joinSplit() error {
	if len(f.index) != len(f.tensors) {
		for i, t := range f.tensors {
			if f.index[t.Name] != i {
				return formatErr("tensor %q: is in two parts", t.Name)
			}
		}
	}
	want, err := f.parts[0].splitNumber(keySplitTensors, int64(len(f.tensors)))
	if err != nil {
		return err
	}
	if want != int64(len(f.tensors)) {
		return formatErr("its parts hold %d tensors, but key %q says %d", len(f.tensors), keySplitTensors, want)
	}
	head := *f.head
	head.kvs = slices.DeleteFunc(slices.Clone(head.kvs), func(kv KV) bool { return strings.HasPrefix(kv.Key, splitPrefix) })
	head.index = map[string]int{}
	for i, kv := range head.kvs {
		head.index[kv.Key] = i
	}
	f.head = &head
	return nil
}
