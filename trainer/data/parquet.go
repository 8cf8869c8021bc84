package data

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/parquet-go/parquet-go"
)

// parquetRows reads the rows of a Parquet file, whose columns may be lists and structures.
func parquetRows(path string, yield func(row, error) bool) (err error) {
	defer func() {
		if r := recover(); r != nil { // the library's own way to say that a page is broken
			err = &FormatError{Path: path, Msg: fmt.Sprintf("Parquet cannot be read: %v", r)}
		}
	}()
	r, size, err := openAt(path)
	if err != nil {
		return err
	}
	defer r.Close()
	f, err := parquet.OpenFile(r, size, parquet.SkipBloomFilters(true), parquet.SkipPageIndex(true))
	if err != nil {
		return &FormatError{Path: path, Msg: fmt.Sprintf("no Parquet: %v", err), Err: err}
	}
	line := 0
	for _, group := range f.RowGroups() {
		if err := groupRows(path, f.Schema(), group, &line, yield); err != nil {
			return err
		}
	}
	return nil
}

func groupRows(path string, schema *parquet.Schema, group parquet.RowGroup, line *int, yield func(row, error) bool) error {
	rows := group.Rows()
	defer rows.Close()
	buf := make([]parquet.Row, 64)
	for {
		n, err := rows.ReadRows(buf)
		for _, r := range buf[:n] {
			*line++
			o, err := objectOfRow(schema, r)
			if !yield(row{object: o, line: *line}, err) {
				return errStopped
			}
		}
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return &FormatError{Path: path, Msg: fmt.Sprintf("Parquet cannot be read behind row %d: %v", *line, err), Err: err}
		}
	}
}

// objectOfRow makes of a row what JSON would say.
func objectOfRow(schema *parquet.Schema, r parquet.Row) (object, error) {
	values := map[string]any{}
	if err := schema.Reconstruct(&values, r); err != nil {
		return nil, badf("row cannot be read: %v", err)
	}
	o := make(object, len(values))
	for name, v := range values {
		raw, err := json.Marshal(plainValue(fieldOf(schema, name), v))
		if err != nil {
			return nil, badf("column %q: %v", name, err)
		}
		o[name] = raw
	}
	return o, nil
}

func fieldOf(n parquet.Node, name string) parquet.Node {
	for _, f := range n.Fields() {
		if f.Name() == name {
			return f
		}
	}
	return nil
}

// plainValue takes the levels away that Parquet puts around the elements of a list, and makes texts of bytes.
func plainValue(n parquet.Node, v any) any {
	switch v := v.(type) {
	case []byte:
		return string(v)
	case map[string]any:
		if inner, ok := elements(n, v); ok {
			return inner
		}
		out := make(map[string]any, len(v))
		for name, x := range v {
			var field parquet.Node
			if n != nil && !n.Leaf() {
				field = fieldOf(n, name)
			}
			out[name] = plainValue(field, x)
		}
		return out
	case []any:
		out := make([]any, len(v))
		for i, x := range v {
			out[i] = plainValue(n, x)
		}
		return out
	case []map[string]any:
		out := make([]any, len(v))
		for i, x := range v {
			out[i] = plainValue(n, x)
		}
		return out
	}
	return v
}

// elements returns the list that a group of one repeated group of one field stands for: {"list": [{"element": x}, …]}.
func elements(n parquet.Node, v map[string]any) ([]any, bool) {
	if n == nil || n.Leaf() || len(n.Fields()) != 1 || !n.Fields()[0].Repeated() || n.Fields()[0].Leaf() || len(n.Fields()[0].Fields()) != 1 {
		return nil, false
	}
	list := n.Fields()[0]
	element := list.Fields()[0]
	out := []any{}
	add := func(x map[string]any) { out = append(out, plainValue(element, x[element.Name()])) }
	switch items := v[list.Name()].(type) {
	case []any:
		for _, x := range items {
			if m, ok := x.(map[string]any); ok {
				add(m)
			}
		}
	case []map[string]any:
		for _, x := range items {
			add(x)
		}
	case nil:
	default:
		return nil, false
	}
	return out, true
}

// fileAt is a file that can be read anywhere.
type fileAt interface {
	io.ReaderAt
	io.Closer
}

// openAt opens a file to be read anywhere; what is packed or comes by standard input is read whole.
func openAt(path string) (fileAt, int64, error) {
	if path != stdin && packedBy(path) == "" {
		f, err := os.Open(path)
		if err != nil {
			return nil, 0, err
		}
		info, err := f.Stat()
		if err != nil {
			return nil, 0, errors.Join(err, f.Close())
		}
		return f, info.Size(), nil
	}
	r, err := openPacked(path)
	if err != nil {
		return nil, 0, err
	}
	defer r.Close()
	b, err := readAll(path, r)
	return memory{bytes.NewReader(b)}, int64(len(b)), err
}

type memory struct{ *bytes.Reader }

func (memory) Close() error { return nil }
