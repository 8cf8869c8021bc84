package data

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"

	"github.com/parquet-go/parquet-go"
)

// parquetRows reads the rows of a Parquet file, whose columns may be lists and structures.
func parquetRows(path string, w *watch, yield func(row, error) bool) (err error) {
	defer func() {
		if r := recover(); r != nil { // the library's own way to say that a page is broken
			err = &FormatError{Path: path, Msg: fmt.Sprintf("Parquet cannot be read: %v", r)}
		}
	}()
	r, size, err := openAt(path, w)
	if err != nil {
		return err
	}
	defer r.Close()
	if err := checkFooter(r, size); err != nil {
		return located(err, path, 0)
	}
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

// checkFooter holds the length of the footer against that of the file, before memory is taken for it.
func checkFooter(r io.ReaderAt, size int64) error {
	const ends = 12 // bytes: the magic number in front and behind, and the length
	var tail [8]byte
	if size < ends {
		return badf("no Parquet: %d bytes, want at least %d", size, ends)
	}
	if _, err := r.ReadAt(tail[:], size-int64(len(tail))); err != nil {
		return err
	}
	if n := int64(binary.LittleEndian.Uint32(tail[:])); n > size-ends || string(tail[4:]) != "PAR1" {
		return badf("no Parquet: it ends with %q and a footer of %d bytes", tail[4:], n)
	}
	return nil
}

func groupRows(path string, schema *parquet.Schema, group parquet.RowGroup, line *int, yield func(row, error) bool) error {
	kinds := leafKinds(schema)
	rows := group.Rows()
	defer rows.Close()
	buf := make([]parquet.Row, 64)
	for {
		n, err := rows.ReadRows(buf)
		for _, r := range buf[:n] {
			*line++
			o, err := objectOfRow(schema, kinds, r)
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

// leafKinds lists what the columns of a schema hold.
func leafKinds(schema *parquet.Schema) []parquet.Kind {
	kinds := make([]parquet.Kind, len(schema.Columns()))
	for _, path := range schema.Columns() {
		if leaf, ok := schema.Lookup(path...); ok {
			kinds[leaf.ColumnIndex] = leaf.Node.Type().Kind()
		}
	}
	return kinds
}

// checkRow wants values in every column, in their order and of its type, which a damaged file need not have: the library takes
// values for those of the next column, and a number for the length of a text.
func checkRow(kinds []parquet.Kind, r parquet.Row) error {
	columns := 0
	for _, v := range r {
		i := v.Column()
		if i == columns {
			columns++
		}
		if i != columns-1 || i >= len(kinds) || !v.IsNull() && v.Kind() != kinds[i] {
			return badf("row cannot be read: %v in the place of column %d", v.Kind(), min(columns, len(kinds)))
		}
	}
	if columns < len(kinds) {
		return badf("row cannot be read: values of %d columns, want %d", columns, len(kinds))
	}
	return nil
}

// objectOfRow makes of a row what JSON would say.
func objectOfRow(schema *parquet.Schema, kinds []parquet.Kind, r parquet.Row) (object, error) {
	if err := checkRow(kinds, r); err != nil {
		return nil, err
	}
	values := map[string]any{}
	if err := schema.Reconstruct(&values, r); err != nil {
		return nil, badf("row cannot be read: %v", err)
	}
	o := make(object, len(values))
	for name, v := range values {
		raw, err := json.Marshal(plainValue(v, 0))
		if err != nil {
			return nil, badf("column %q: %v", name, err)
		}
		o[name] = raw
	}
	return o, nil
}

// plainValue makes texts of bytes. Inside of a message or a tool, which are structures at depth 0, what is null is left out:
// all rows of a column have the same fields, those of all calls for instance, and null is what a row has not.
func plainValue(v any, depth int) any {
	switch v := v.(type) {
	case []byte:
		return string(v)
	case map[string]any:
		for name, x := range v {
			if v[name] = plainValue(x, depth+1); v[name] == nil && depth > 0 {
				delete(v, name)
			}
		}
	case []any:
		for i, x := range v {
			v[i] = plainValue(x, depth)
		}
	}
	return v
}

// fileAt is a file that can be read anywhere.
type fileAt interface {
	io.ReaderAt
	io.Closer
}

// openAt opens a file to be read anywhere; what is packed or comes by standard input is read whole.
func openAt(path string, w *watch) (fileAt, int64, error) {
	if path != stdin && packedBy(path) == "" {
		f, err := openFile(path)
		if err != nil {
			return nil, 0, err
		}
		info, err := f.Stat()
		if err != nil {
			return nil, 0, errors.Join(err, f.Close())
		}
		return watchedAt{f, w}, info.Size(), nil
	}
	r, err := openPacked(path, w)
	if err != nil {
		return nil, 0, err
	}
	defer r.Close()
	b, err := readAll(path, r)
	return memory{bytes.NewReader(b)}, int64(len(b)), err
}

type memory struct{ *bytes.Reader }

func (memory) Close() error { return nil }
