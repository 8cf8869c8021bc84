package data

import "iter"

// Texts yields the texts in a file, a plain one whole, of records each part that people or a
// model wrote, in order, and stops behind the first error. Nothing stands around them: no
// chat template, no special tokens. It is what a tokenizer is learned from. Errors are as Load's.
func Texts(path string) iter.Seq2[string, error] {
	return func(yield func(string, error) bool) {
		format, err := formatOf(path, Auto)
		if err != nil {
			yield("", advise(err))
			return
		}
		if format == Text {
			text, err := readText(path)
			yield(text, advise(err))
			return
		}
		for rec, err := range ReadRecords(path) {
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
func (r Record) parts() (parts []string) {
	switch r.Kind {
	case KindText:
		return []string{r.Text}
	case KindCompletion:
		return []string{r.Prompt, r.Completion}
	}
	for _, m := range r.Messages {
		parts = append(parts, m.Content)
	}
	return parts
}
