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
//	train, val, err := data.LoadRun(ctx, config, model.Vocab(), template, nil)
//	for _, i := range data.Order(config.Seed, epoch, train.Len()) {
//		w := train.At(i) // w.Tokens, w.Targets, w.LossMask …
//	}
package data

import (
	"errors"
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

	Classes *labels // of a classification; nil: there is none
	Pairs   bool    // records are texts that belong together
	Ranks   *ranks  // of a reranker's data; nil: it is none

	Model string // path of the model that the tokenizer is of; "": data has no cache file
	Large int64  // bytes of files from which on there is a cache file; 0: largeData
	watch *watch // nil: nobody
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
	return set, advise(stopped(o.watch, err))
}

func load(paths string, o options) (*dataset, error) {
	if err := o.findClasses(paths); err != nil {
		return nil, err
	}
	s, asText, err := newSource(paths, o)
	if err != nil {
		return nil, err
	}
	if asText && (o.Pairs || o.Ranks != nil) {
		return nil, &FormatError{Path: s.files[0], Msg: "is a plain text, want records", Err: errFields}
	}
	if o.cacheable(s) {
		return cached(s, asText, o)
	}
	b, err := newBuilder(o, nil)
	if err != nil {
		return nil, err
	}
	if err := b.read(s, asText); err != nil {
		return nil, errors.Join(err, b.close())
	}
	return b.inMemory()
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

// noTrained says where the records went.
func noTrained(s Stats) string {
	return fmt.Sprintf("no trained token in %d records: %d with an empty answer, %d without an answer to learn or cut before it, %d skipped as too long, %d of which the chat template loses a part",
		s.Records, s.EmptyRecords, s.NoLoss, s.Skipped, s.LostSkipped)
}
