// Package data turns files of text into windows of tokens to train on: what is read, what
// of it is learned, how it is packed to the context, in what order it comes.
//
// Files are plain texts, or records: JSON lines, a JSON array, CSV, TSV or Parquet, each also as .gz or .zst. A record is
// {text}, {prompt, completion}, {messages} (also as ShareGPT's {conversations}),
// {instruction, input, output}, {question, answer} and the like; see format.go. Chats are written by
// the model's own template, and what the template loses of them is refused or told. Everything is a function of the files,
// the options and the seed: two loads give the same windows.
//
// Refused: files that are not UTF-8 or UTF-16, message
// parts that are not text, loss weights other than 0 and 1.
//
//	train, val, err := data.LoadRun(config, model.Vocab(), template)
//	for _, i := range data.Order(config.Seed, epoch, train.Len()) {
//		w := train.At(i) // w.Tokens, w.Targets, w.LossMask …
//	}
package data

import (
	"fmt"
	"time"

	"finetune/chat"
)

// longRecords says what happens to a record of more tokens than the context.
type longRecords uint8

const (
	cutLong  longRecords = iota // keep its first n_ctx targets
	skipLong                    // leave it out
)

// options say how a file is read. The zero value of a field is its default; NCtx and
// Tokenizer have none.
type options struct {
	NCtx      int // tokens a window
	Tokenizer chat.Tokenizer

	// Template is the model's chat template, Jinja source; none if it has none.
	Template chat.Source
	// Now is the clock of templates that print the date (strftime_now). Zero hides the
	// clock from them, and they fall back to the date they were written with.
	Now  time.Time
	Args chat.Args // of the template

	Format      string      // of the records, see formats; "": by their fields
	Map         []string    // field=column
	OnLost      string      // a record of which the template loses something: refuse (the default), warn or skip
	SkipBad     int         // records that cannot be read and may be left out
	LongRecords longRecords // records only; a plain text is cut into windows
	ValFraction float64     // part held out for validation, 0 to 1; 0 is none
	Seed        uint64      // picks the records held out
}

// dataset is a loaded file.
type dataset struct {
	Train *Windows
	Val   *Windows // the part held out; nil without options.ValFraction
}

// loadFile reads a file into windows. Of a plain text the last ValFraction is held out, of
// records a choice by Seed in which equal records stay on one side.
//
// Errors: *fs.PathError from the file system, *FormatError for what is wrong in the file
// (ErrEmpty, ErrNoTrained and chat.ErrNoTemplate are told apart by errors.Is) and
// *UnsupportedError for what is not read.
//
// Some errors carry advice, see internal/hint.
func loadFile(path string, o options) (*dataset, error) {
	if err := o.check(); err != nil {
		return nil, err
	}
	set, err := load(path, o)
	return set, advise(err)
}

func load(paths string, o options) (*dataset, error) {
	s, asText, err := newSource(paths, o)
	if err != nil {
		return nil, err
	}
	if asText {
		return loadTexts(s.files, o)
	}
	return loadRecords(s, o)
}

func (o options) check() error {
	switch {
	case o.Tokenizer == nil:
		return fmt.Errorf("data: no tokenizer given")
	case o.NCtx < 1:
		return fmt.Errorf("data: context of %d tokens, want at least 1", o.NCtx)
	case !(o.ValFraction >= 0 && o.ValFraction < 1):
		return fmt.Errorf("data: held-out fraction %g, want 0 or more and below 1", o.ValFraction)
	}
	return nil
}

// loadTexts reads plain texts, of each of which the last part is held out.
func loadTexts(files []string, o options) (*dataset, error) {
	var train, val []string
	for _, path := range files {
		text, err := readText(path)
		if err != nil {
			return nil, err
		}
		t, v := splitText(text, o.ValFraction)
		train, val = append(train, t), append(val, v)
	}
	set := new(dataset)
	var err error
	if set.Train, err = textWindows(files[0], train, o); err != nil {
		return nil, err
	}
	if o.ValFraction > 0 {
		if set.Val, err = textWindows(files[0], val, o); err != nil {
			return nil, heldOut(err)
		}
	}
	return set, nil
}

func loadRecords(s *source, o options) (*dataset, error) {
	records, err := encodeAll(s, o)
	if err != nil {
		return nil, err
	}
	path := s.files[0]
	parts, err := splitRecords(records, o.ValFraction, o.Seed, func(r encoded) bool { return len(new(Stats).fit(r, o)) > 0 })
	if err != nil {
		if _, err := recordWindows(path, records, o); err != nil { // there is nothing to split
			return nil, err
		}
		return nil, located(err, path, 0)
	}
	set := new(dataset)
	if set.Train, err = recordWindows(path, parts.train, o); err != nil {
		return nil, err
	}
	set.Train.stats.Source = s.describe(records, parts)
	if o.ValFraction > 0 {
		if set.Val, err = recordWindows(path, parts.val, o); err != nil {
			return nil, heldOut(err)
		}
	}
	return set, nil
}

// recordWindows makes the records fit the context and packs them.
func recordWindows(path string, records []encoded, o options) (*Windows, error) {
	var stats Stats
	var examples []example
	for _, r := range records {
		examples = append(examples, stats.fit(r, o)...)
	}
	w := pack(examples, o.NCtx, stats)
	if w.stats.TrainedTokens == 0 {
		return nil, &FormatError{Path: path, Msg: noTrained(w.stats), Err: ErrNoTrained}
	}
	return w, nil
}

// noTrained says where the records went.
func noTrained(s Stats) string {
	return fmt.Sprintf("no trained token in %d records: %d with an empty answer, %d without an answer to learn or cut before it, %d skipped as too long, %d of which the chat template loses a part",
		s.Records, s.EmptyRecords, s.NoLoss, s.Skipped, s.LostSkipped)
}
