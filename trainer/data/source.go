package data

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"finetune/internal/hint"
)

// source reads records from files.
type source struct {
	*reader
	files     []string
	asRecords string // one of them that has the name of a text, and holds records
	kinds     []fileKind
	skipBad   int      // records that may be left out
	badCount  int      // records that were
	bad       []string // why, of the first of them
	watch     *watch
}

// newSource finds the files that paths name. asText says that they are plain texts, all of them; names that differ in that
// are refused.
func newSource(paths string, o options) (s *source, asText bool, err error) {
	s = &source{skipBad: o.SkipBad, watch: o.watch}
	if s.reader, err = newReader(o.Format, o.Map, o.Template); err != nil {
		return nil, false, err
	}
	s.classes, s.pairs, s.ranks = o.Classes, o.Pairs, o.Ranks
	if s.files, err = expand(paths); err != nil {
		return nil, false, err
	}
	for _, path := range s.files {
		kind, err := kindOf(path, o.watch)
		if err != nil {
			return nil, false, err
		}
		switch {
		case kind == kindJSON && namedText(path) && o.Format == "text":
			kind = kindPlain
		case kind == kindJSON && namedText(path):
			s.asRecords = path
		}
		s.kinds = append(s.kinds, kind)
	}
	for i, kind := range s.kinds {
		if (kind == kindPlain) != (s.kinds[0] == kindPlain) {
			return nil, false, &FormatError{Path: s.files[i], Msg: fmt.Sprintf("is not of the kind of %q, want either texts or records", s.files[0])}
		}
	}
	return s, s.kinds[0] == kindPlain, nil
}

// records hands every record to do, and stops at the first error, of reading or of do, that may not be left out.
func (s *source) records(do func(record) error) error {
	for i, path := range s.files {
		if err := s.file(path, s.kinds[i], do); err != nil {
			return err
		}
	}
	return nil
}

func (s *source) file(path string, kind fileKind, do func(record) error) error {
	var cells []row // of a table without a header, which is looked at as a whole
	for r, err := range rows(path, kind, s.watch) {
		if fatal := (*fatalError)(nil); errors.As(err, &fatal) {
			return fatal.error
		}
		if err == nil && r.cols > 0 && len(s.names) == 0 {
			cells = append(cells, r)
			continue
		}
		if err := s.take(r, err, path, do); err != nil {
			return err
		}
	}
	if len(cells) == 0 {
		return nil
	}
	column, ok := textColumn(cells)
	if !ok {
		return &FormatError{Path: path, Line: 1, Msg: "table without a header, and no one column of texts", Err: errFields}
	}
	s.text = column
	for _, r := range cells {
		r.object = maps.Clone(r.object)
		r.object["text"] = r.object[column]
		delete(r.object, column)
		if err := s.take(r, nil, path, do); err != nil {
			return err
		}
	}
	return nil
}

// take reads one row, or leaves it out.
func (s *source) take(r row, err error, path string, do func(record) error) error {
	var rec record
	if err == nil {
		rec, err = s.record(r, path)
	}
	if err == nil {
		err = do(rec)
	}
	if err == nil {
		return nil
	}
	err = locate(err, path, r.line)
	if stop := s.watch.err(); stop != nil {
		return stop
	}
	if s.badCount < s.skipBad {
		const kept = 10_000 // reasons
		if s.badCount++; s.badCount <= kept {
			s.bad = append(s.bad, err.Error())
		}
		return nil
	}
	if s.skipBad > 0 {
		return hint.With(err, fmt.Sprintf("%d bad records were left out before it, the most that --skip-bad allows", s.skipBad))
	}
	return err
}

// notes says how the files were read, where that is not plain to see.
func (s *source) notes() (lines []string) {
	if s.text != "" {
		lines = append(lines, fmt.Sprintf("the table has no header: column %s is read as text, and no other", s.text))
	}
	if s.asRecords != "" {
		lines = append(lines, fmt.Sprintf("%q holds records and is read so, not as a text (--format text reads it as one)", s.asRecords))
	}
	if len(s.unused) > 0 && s.text == "" {
		var names []string
		for _, name := range slices.Sorted(maps.Keys(s.unused)) {
			names = append(names, fmt.Sprintf("%.40q (%d)", name, s.unused[name]))
		}
		if len(names) > 8 {
			names = append(names[:8], fmt.Sprintf("and %d more", len(names)-8))
		}
		lines = append(lines, "fields of records that are not used: "+strings.Join(names, ", "))
	}
	if len(s.strangers) > 0 {
		var names []string
		for _, name := range slices.Sorted(maps.Keys(s.strangers)) {
			names = append(names, fmt.Sprintf("%.40q (%d)", name, s.strangers[name]))
		}
		if len(names) > 8 {
			names = append(names[:8], fmt.Sprintf("and %d more", len(names)-8))
		}
		lines = append(lines, "messages of roles that are not known are read and not learned: "+strings.Join(names, ", "))
	}
	if n := s.badCount; n > 0 {
		const shown = 5
		text := strings.Join(s.bad[:min(len(s.bad), shown)], "; ")
		if n > shown {
			text += fmt.Sprintf("; and %d more", n-shown)
		}
		lines = append(lines, fmt.Sprintf("%d bad records were left out: %s", n, text))
	}
	return lines
}

// locate leaves errors of the file system, and those that know their place, as they are.
func locate(err error, path string, line int) error {
	var f *FormatError
	var u *UnsupportedError
	switch {
	case errors.As(err, &f) && f.Path == "":
		return advised(located(f, path, max(line, f.Line)), err)
	case errors.As(err, &u) && u.Path == "":
		return advised(located(u, path, line), err)
	case errors.As(err, &f), errors.As(err, &u), err == nil:
		return err
	}
	if _, isChat := asChat(err); isChat {
		return located(err, path, line)
	}
	return err
}

// advised returns err with the hints that another error has.
func advised(err, other error) error {
	if hints := hint.Of(other); len(hints) > 0 {
		return hint.With(err, hints...)
	}
	return err
}
