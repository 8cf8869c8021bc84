package data

import (
	"errors"
	"io"
	"runtime"

	"finetune/trainer/data/chunk"
	"finetune/trainer/data/store"
)

// spoolInMemory is how much of each of a few spools stays in memory: data of some megabytes is not written anywhere.
const spoolInMemory = 4 << 20

// spoolDir is where spools have their files: with the cache, since the system's folder for temporary files is often in memory.
func spoolDir() string {
	dir, err := store.DefaultDir()
	if err != nil {
		return ""
	}
	return dir
}

// builder makes windows of what is read, in one pass over it.
type builder struct {
	options
	encoder *chunk.Encoder
	tokens  *tokenWriter
	spool   *store.Spool // of the tokens, unless they go to a cache file

	mayBeEmpty bool                       // no token to learn is no error
	kept       func(e example, r encoded) // is told of each example of records; may be nil

	train, val packed
	hasVal     bool
}

// newBuilder returns a builder that writes tokens to w, nil for a spool of its own.
func newBuilder(o options, w io.Writer) (*builder, error) {
	b := &builder{options: o, encoder: chunk.New(o.Tokenizer), hasVal: o.ValFraction > 0}
	if o.NCtx >= maxTokens {
		return nil, unsupportedf("context of %d tokens, want less than %d", o.NCtx, maxTokens)
	}
	if w == nil {
		b.spool = &store.Spool{Limit: 4 * spoolInMemory, Dir: spoolDir()}
		w = b.spool
	}
	b.tokens = &tokenWriter{w: w}
	return b, nil
}

func (b *builder) classNames() []string {
	if b.Classes == nil {
		return nil
	}
	return b.Classes.names
}

func (b *builder) close() error {
	if b.spool == nil {
		return nil
	}
	return b.spool.Close()
}

// inMemory returns the windows over the builder's own spool, which they keep.
func (b *builder) inMemory() (*dataset, error) {
	raw, err := b.spool.Bytes()
	if err != nil {
		return nil, errors.Join(err, b.close())
	}
	own := &owner{mapped: b.spool.Held() == 0 && len(raw) > 0}
	runtime.AddCleanup(own, func(s *store.Spool) { s.Close() }, b.spool)
	words := listOf[word](raw)
	set := &dataset{Train: &Windows{nCtx: b.NCtx, words: words, packed: b.train, owner: own, names: b.classNames(), pairs: b.Pairs, ranks: b.Ranks != nil}}
	if b.hasVal {
		set.Val = &Windows{nCtx: b.NCtx, words: words, packed: b.val, owner: own, names: b.classNames(), pairs: b.Pairs, ranks: b.Ranks != nil}
	}
	return set, nil
}

// read reads all that a source has.
func (b *builder) read(s *source, asText bool) error {
	if asText {
		return b.texts(s)
	}
	return b.records(s)
}

// records reads records.
func (b *builder) records(s *source) (err error) {
	enc, err := newEncoder(b.options)
	if err != nil {
		return located(err, "", 0)
	}
	var size int64
	for _, path := range s.files {
		size += sizeOf(path)
	}
	b.watch.begin("tokenizing", size)
	c := newCollector(b)
	defer func() { err = errors.Join(err, c.close()) }()
	err = s.records(func(rec record) error {
		e, err := enc.record(rec)
		if err != nil {
			return located(err, rec.Path, rec.Line)
		}
		if err := b.watch.step(); err != nil {
			return err
		}
		e.line, e.path, e.chosen = rec.Line, rec.Path, rec.Chosen
		return c.add(rec, e)
	})
	if err != nil {
		return err
	}
	b.watch.begin("looking for near-duplicates", 0)
	return b.splitAndPack(s, c)
}

func (b *builder) splitAndPack(s *source, c *collector) error {
	path := s.files[0]
	choice, err := splitRecords(c.prints, c.learns, b.ValFraction, b.Seed, b.watch)
	refused := (*FormatError)(nil)
	if err != nil && !errors.As(err, &refused) {
		return err
	}
	train, val, e := c.divide(choice.held)
	if e != nil {
		return e
	}
	if train.targets == 0 && !b.mayBeEmpty { // there is nothing to split
		return &FormatError{Path: path, Msg: noTrained(train.stats), Err: ErrNoTrained}
	}
	if err != nil {
		return located(err, path, 0)
	}
	b.train = pack(train.spans, train.targets, b.NCtx, train.stats)
	b.train.stats.Source = s.describe(c.prints.n, choice)
	if b.hasVal {
		if val.targets == 0 {
			return heldOut(&FormatError{Path: path, Msg: noTrained(val.stats), Err: ErrNoTrained})
		}
		b.val = pack(val.spans, val.targets, b.NCtx, val.stats)
	}
	return nil
}
