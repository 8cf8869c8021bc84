package data

import "iter"

// Texts yields the texts in a file, a plain one whole, of records each part that people or a
// model wrote, in order, and stops behind the first error. Nothing stands around them: no
// chat template, no special tokens. It is what a tokenizer is learned from. Errors are
// *fs.PathError, *FormatError and *UnsupportedError.
func Texts(path string) iter.Seq2[string, error] {
	return func(yield func(string, error) bool) {
		format, err := formatOf(path, formatAuto)
		if err != nil {
			yield("", advise(err))
			return
		}
		if format == formatText {
			text, err := readText(path)
			yield(text, advise(err))
			return
		}
		for rec, err := range readRecords(path) {
			if err != nil {
				yield("", advise(err))
				return
			}
			for _, part := range rec.parts() {
				if part != "" && !yield(part, nil) {
					return
				}
			}
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
	}
	for _, m := range r.Messages {
		parts = append(parts, m.Content)
	}
	return parts
}
