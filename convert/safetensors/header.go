package safetensors

import (
	"bytes"
	"encoding/json"
	"io"
	"strconv"
	"unicode/utf8"
)

const metadataKey = "__metadata__"

// maxElements bounds shapes and offsets, so that sums of a few stay far from the
// largest int64.
const maxElements = 1 << 56

// parser walks through the header token by token: encoding/json by itself would let
// keys come twice.
type parser struct{ dec *json.Decoder }

// parseHeader reads the whole JSON text.
func parseHeader(text []byte) (map[string]string, []Tensor, error) {
	if len(text) == 0 || text[0] != '{' || !utf8.Valid(text) {
		return nil, nil, formatErr("header is no JSON object in UTF-8")
	}
	p := parser{json.NewDecoder(bytes.NewReader(text))}
	p.dec.UseNumber()
	var metadata map[string]string
	var tensors []Tensor
	err := p.object("header", func(name string) (err error) {
		if name == metadataKey {
			metadata, err = p.metadata()
			return err
		}
		t, err := p.tensor(name)
		tensors = append(tensors, t)
		return err
	})
	if err != nil {
		return nil, nil, err
	}
	if _, err := p.dec.Token(); err != io.EOF { // spaces, which align the data, are passed over
		return nil, nil, formatErr("header goes on after its JSON object")
	}
	return metadata, tensors, nil
}

// token returns the next token; io errors cannot happen, the text is in memory.
func (p parser) token() (json.Token, error) {
	t, err := p.dec.Token()
	if err != nil {
		return nil, formatErr("header is no valid JSON at byte %d", p.dec.InputOffset())
	}
	return t, nil
}

// object calls member for each key of the object that comes next, no key twice.
func (p parser) object(what string, member func(key string) error) error {
	open, err := p.token()
	if err != nil {
		return err
	}
	return p.members(open, what, member)
}

// members is the rest of an object, behind the token that opened it.
func (p parser) members(open json.Token, what string, member func(key string) error) error {
	if open != json.Delim('{') {
		return formatErr("%s: want a JSON object", what)
	}
	seen := map[string]bool{}
	for p.dec.More() {
		t, err := p.token()
		if err != nil {
			return err
		}
		key, ok := t.(string)
		if !ok || seen[key] {
			return formatErr("%s: key %q comes twice", what, key)
		}
		seen[key] = true
		if err := member(key); err != nil {
			return err
		}
	}
	_, err := p.token() // the closing brace
	return err
}

func (p parser) string(what string) (string, error) {
	t, err := p.token()
	if err != nil {
		return "", err
	}
	s, ok := t.(string)
	if !ok {
		return "", formatErr("%s: want a string", what)
	}
	return s, nil
}

func (p parser) metadata() (map[string]string, error) {
	open, err := p.token()
	if err != nil || open == nil { // mlx writes null for none
		return nil, err
	}
	m := map[string]string{}
	err = p.members(open, metadataKey, func(key string) (err error) {
		m[key], err = p.string(metadataKey)
		return err
	})
	return m, err
}

// tensor reads {"dtype":"F32","shape":[8,768],"data_offsets":[0,24576]}.
func (p parser) tensor(name string) (Tensor, error) {
	t := Tensor{Name: name}
	var dtype string
	var offsets []int64
	what := "tensor " + strconv.Quote(name)
	members := 0
	err := p.object(what, func(key string) (err error) {
		members++
		switch key {
		case "dtype":
			dtype, err = p.string(what + ": dtype")
		case "shape":
			t.Shape, err = p.numbers(what + ": shape")
		case "data_offsets":
			offsets, err = p.numbers(what + ": data_offsets")
		default:
			err = formatErr("%s: key %q is unknown", what, key)
		}
		return err
	})
	switch {
	case err != nil:
		return t, err
	case members != 3:
		return t, formatErr("%s: want dtype, shape and data_offsets", what)
	case len(offsets) != 2 || offsets[1] < offsets[0]:
		return t, formatErr("%s: data_offsets %v, want start and end", what, offsets)
	}
	t.DType = DType(dtype)
	t.offset, t.bytes = offsets[0], offsets[1]-offsets[0]
	return t, t.check()
}

// check compares the shape with the bytes that the offsets leave for it.
func (t Tensor) check() error {
	if t.DType.Size() == 0 {
		return unsupportedErr("tensor %q: type %q, want F32, F16 or BF16", t.Name, string(t.DType))
	}
	elements := int64(1)
	for _, n := range t.Shape {
		if n > 0 && elements > maxElements/n {
			return formatErr("tensor %q: shape %v has more elements than can be counted", t.Name, t.Shape)
		}
		elements *= n
	}
	if want := elements * t.DType.Size(); want != t.bytes {
		return formatErr("tensor %q: %d bytes of data, %s of shape %v has %d", t.Name, t.bytes, t.DType, t.Shape, want)
	}
	return nil
}

// numbers reads a list of whole numbers from 0 on.
func (p parser) numbers(what string) ([]int64, error) {
	open, err := p.token()
	if err != nil {
		return nil, err
	}
	if open != json.Delim('[') {
		return nil, formatErr("%s: want a list of whole numbers", what)
	}
	list := []int64{}
	for p.dec.More() {
		t, err := p.token()
		if err != nil {
			return nil, err
		}
		number, _ := t.(json.Number)
		n, err := strconv.ParseUint(number.String(), 10, 63)
		if err != nil || n > maxElements {
			return nil, formatErr("%s: %v, want whole numbers from 0 to %d", what, t, int64(maxElements))
		}
		list = append(list, int64(n))
	}
	_, err = p.token() // the closing bracket
	return list, err
}
