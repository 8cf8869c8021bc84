package data

import (
	"context"
	"iter"
)

// Texts yields the texts in a file, a plain one whole, of records each part that people or a
// model wrote, in order, and stops behind the first error. Nothing stands around them: no
// chat template, no special tokens. It is what a tokenizer is learned from. Errors are that of ctx,
// *fs.PathError, *FormatError and *UnsupportedError.
func Texts(ctx context.Context, path string) iter.Seq2[string, error] {
	return func(yield func(string, error) bool) {
		w := newWatch(ctx, nil)
		s, asText, err := newSource(path, options{watch: w})
		if err != nil {
			yield("", advise(err))
			return
		}
		s.mixed = true
		if asText {
			for _, file := range s.files {
				text, err := readText(file, w)
				if !yield(text, advise(err)) || err != nil {
					return
				}
			}
			return
		}
		err = s.records(func(rec record) error {
			for _, part := range rec.parts() {
				if part != "" && !yield(part, nil) {
					return errStopped
				}
			}
			return nil
		})
		if err != nil && err != errStopped {
			yield("", advise(err))
		}
	}
}

// parts returns a record's texts. The prompt of an instruction is in its messages too, as it was
// written and without headings.
func (r record) parts() (parts []string) {
	switch r.Kind {
	case kindText:
		return []string{r.Text}
	case kindCompletion:
		return []string{r.Prompt, r.Completion}
	case kindPair:
		return append([]string{r.Text, r.Pair}, r.Others...)
	case kindRank:
		return append([]string{r.Text}, r.Others...)
	case kindClass:
		return []string{r.Text, r.Pair, r.Label}
	}
	for _, m := range r.Messages {
		if m.Role != "system" {
			parts = append(parts, m.Thought, m.Content)
		}
		for _, c := range m.Calls {
			parts = append(parts, c.Name, c.Arguments())
		}
	}
	return parts
}

// kept are the texts by which records that are alike stay on one side of a split: of a ranking the query alone, whose documents may
// be records of their own.
func (r record) kept() []string {
	if r.Kind == kindRank {
		return []string{r.Text}
	}
	return r.parts()
}
