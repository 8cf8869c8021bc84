package data

import (
	"bufio"
	"encoding/binary"
	"errors"
	"io"

	"finetune/trainer/data/store"
)

// records goes over the records of a source once, with what is kept of each in spools: its tokens, its fingerprint, and a line of
// the log, from which the parts are made when it is known what is held out.
type collector struct {
	builder *builder
	prints  *prints
	log     store.Spool
	w       *bufio.Writer
	learns  []bool // of each record: it has something to learn
}

func newCollector(b *builder) *collector {
	c := &collector{builder: b, prints: newPrints(spoolInMemory, spoolDir()), log: store.Spool{Limit: spoolInMemory, Dir: spoolDir()}}
	c.w = bufio.NewWriterSize(&c.log, 64<<10)
	return c
}

func (c *collector) close() error { return errors.Join(c.prints.close(), c.log.Close()) }

// add keeps a record.
func (c *collector) add(rec record, e encoded) error {
	kept, t := fit(e, c.builder.options)
	entry := logEntry{tally: t}
	for _, x := range kept {
		s, err := c.builder.tokens.add(x)
		if err != nil {
			return err
		}
		entry.lengths = append(entry.lengths, s.len())
		entry.targets += x.targets()
		if c.builder.kept != nil {
			c.builder.kept(x, e)
		}
	}
	c.learns = append(c.learns, t.kept)
	_, err := c.w.Write(entry.encode(nil))
	return errors.Join(err, c.prints.add(newFingerprint(rec.kept())))
}

// logEntry is what is kept of a record.
type logEntry struct {
	tally
	lengths []int // of the examples that are trained on
	targets int   // that these have
}

// flags and numbers of a tally, in the order of the log.
func (e *logEntry) flags() []*bool {
	return []*bool{&e.cut, &e.skipped, &e.lost, &e.leftOut, &e.merged, &e.chosen, &e.kept, &e.raw}
}

func (e *logEntry) numbers() []*int {
	return []*int{&e.length, &e.targets, &e.empty, &e.stopsAdded, &e.stopsMissing, &e.stopsInside, &e.inexact, &e.given, &e.behind}
}

func (e *logEntry) encode(b []byte) []byte {
	flags := byte(0)
	for i, f := range e.flags() {
		flags |= byte(ones(*f)) << i
	}
	b = append(b, flags)
	for _, n := range e.numbers() {
		b = binary.AppendUvarint(b, uint64(*n))
	}
	b = binary.AppendUvarint(b, uint64(len(e.lengths)))
	for _, n := range e.lengths {
		b = binary.AppendUvarint(b, uint64(n))
	}
	b = binary.AppendUvarint(b, uint64(len(e.lossAt)))
	return append(b, e.lossAt...)
}

// decode reads the next entry of a log, io.EOF behind the last.
func (e *logEntry) decode(r *bufio.Reader) error {
	lengths := e.lengths[:0]
	*e = logEntry{}
	flags, err := r.ReadByte()
	if err != nil {
		return err
	}
	for i, f := range e.flags() {
		*f = flags&(1<<i) != 0
	}
	number := func() int {
		n, e := binary.ReadUvarint(r)
		err = errors.Join(err, e)
		return int(n)
	}
	for _, n := range e.numbers() {
		*n = number()
	}
	for range number() {
		lengths = append(lengths, number())
	}
	e.lengths = lengths
	text := make([]byte, number())
	_, e2 := io.ReadFull(r, text)
	e.lossAt = string(text)
	return errors.Join(err, e2)
}

// part is one side of a split.
type part struct {
	stats   Stats
	spans   []span
	targets int
}

func (p *part) add(e *logEntry, from int64) {
	p.stats.add(e.tally)
	p.targets += e.targets
	for _, n := range e.lengths {
		p.spans = append(p.spans, newSpan(from, n))
		from += int64(n)
	}
}

// divide goes over the log, and puts each record on its side. held is nil where nothing is held out.
func (c *collector) divide(held []bool) (train, val part, err error) {
	if err := c.w.Flush(); err != nil {
		return train, val, err
	}
	log, err := c.log.Reader()
	if err != nil {
		return train, val, err
	}
	r := bufio.NewReaderSize(log, 64<<10)
	var e logEntry
	for i, from := 0, int64(0); ; i++ {
		if err := e.decode(r); err == io.EOF {
			return train, val, nil
		} else if err != nil {
			return train, val, err
		}
		side := &train
		if held != nil && held[i] {
			side = &val
		}
		side.add(&e, from)
		for _, n := range e.lengths {
			from += int64(n)
		}
		if err := c.builder.watch.err(); err != nil {
			return train, val, err
		}
	}
}
