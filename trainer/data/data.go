// Package data turns files of text into windows of tokens to train on: what is read, what
// of it is learned, how it is packed to the context, in what order it comes.
//
// Files are plain text (UTF-8), JSON lines, or a JSON array of records. A record is
// {text}, {prompt, completion}, {messages} (also as ShareGPT's {conversations}),
// {instruction, input, output} or {question, answer}; see record.go. Chats are written by
// the model's own template. Everything is a function of the file, the options and the
// seed: two loads give the same windows.
//
// Refused: files that are not UTF-8, tables and archives (CSV, Parquet, gzip), message
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

	// Template is the model's chat template (tokenizer.chat_template), Jinja source; "" if it has none.
	Template string
	// Now is the clock of templates that print the date (strftime_now). Zero hides the
	// clock from them, and they fall back to the date they were written with.
	Now time.Time

	Format      fileFormat  // default: by the file's name
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

func load(path string, o options) (*dataset, error) {
	format, err := formatOf(path, o.Format)
	if err != nil {
		return nil, err
	}
	if format == formatText {
		return loadText(path, o)
	}
	return loadRecords(path, o)
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

func loadText(path string, o options) (*dataset, error) {
	text, err := readText(path)
	if err != nil {
		return nil, err
	}
	train, val := splitText(text, o.ValFraction)
	set := new(dataset)
	if set.Train, err = textWindows(path, train, o); err != nil {
		return nil, err
	}
	if o.ValFraction > 0 {
		if set.Val, err = textWindows(path, val, o); err != nil {
			return nil, heldOut(err)
		}
	}
	return set, nil
}

func loadRecords(path string, o options) (*dataset, error) {
	records, err := encodeFile(path, o)
	if err != nil {
		return nil, err
	}
	train, val, err := splitRecords(records, o.ValFraction, o.Seed)
	if err != nil {
		return nil, &FormatError{Path: path, Msg: err.Error()}
	}
	set := new(dataset)
	if set.Train, err = recordWindows(path, train, o); err != nil {
		return nil, err
	}
	if o.ValFraction > 0 {
		if set.Val, err = recordWindows(path, val, o); err != nil {
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
	return fmt.Sprintf("no trained token in %d records: %d without an answer to learn or cut before it, %d skipped as too long", s.Records, s.NoLoss, s.Skipped)
}
