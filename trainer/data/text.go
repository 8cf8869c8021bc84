package data

import (
	"bytes"
	"context"
	"errors"
	"io"
	"io/fs"
	"unicode/utf8"
)

// texts reads plain texts, of each of which the last part is held out, and cuts them into windows. Each part is tokenized as
// one text, names of special tokens being text like any other. A vocabulary with a BOS gives windows
//
//	inputs  BOS t0 … t(n-2)    targets  t0 … t(n-1)
//
// and one without inputs t0 … t(n-1), targets t1 … tn, the next window beginning at tn. Either
// way every token is a target once (but for t0 without a BOS). The last window is padded.
func (b *builder) texts(s *source) error {
	path := s.files[0]
	var train, val part
	var trainBytes, valBytes int64
	for _, file := range s.files {
		at, size, err := b.splitText(file)
		if err != nil {
			return err
		}
		trainBytes, valBytes = trainBytes+at, valBytes+size-at
		b.watch.begin("tokenizing", sizeOf(file))
		f, err := open(file, b.watch)
		if err != nil {
			return err
		}
		err = b.text(&train, io.LimitReader(f, at))
		if err == nil && b.hasVal {
			err = b.text(&val, f)
		}
		if err != nil {
			return textError(errors.Join(err, f.Close()), path)
		}
		if err := f.Close(); err != nil {
			return err
		}
	}
	var err error
	if b.train, err = b.packText(path, train, trainBytes); err != nil {
		return err
	}
	if b.hasVal {
		if b.val, err = b.packText(path, val, valBytes); err != nil {
			return heldOut(err)
		}
	}
	return nil
}

// textError names the file in the errors of the tokenizer.
func textError(err error, path string) error {
	var file *fs.PathError
	if errors.As(err, &file) || errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
		return err
	}
	return located(err, path, 0)
}

func (b *builder) packText(path string, p part, size int64) (packed, error) {
	if size == 0 {
		return packed{}, &FormatError{Path: path, Msg: "no text", Err: ErrEmpty}
	}
	if p.targets == 0 {
		return packed{}, &FormatError{Path: path, Msg: "no trained token: the text is too short", Err: ErrNoTrained}
	}
	return pack(p.spans, p.targets, b.NCtx, p.stats), nil
}

// text tokenizes a text, and cuts it into pieces of the context's length.
func (b *builder) text(p *part, r io.Reader) error {
	p.stats.Records++
	start := b.tokens.n
	bos := int32(-1)
	if b.Tokenizer.AddBOS() {
		bos = b.Tokenizer.BOS()
	}
	in := 0 // tokens of the piece, behind its BOS
	err := b.encoder.Stream(r, false, func(ids []int32) error {
		if err := b.watch.err(); err != nil || bos < 0 {
			return errors.Join(err, b.tokens.addLearned(ids))
		}
		for len(ids) > 0 {
			if in == 0 {
				if err := b.tokens.addLearned([]int32{bos}); err != nil {
					return err
				}
			}
			n := min(len(ids), b.NCtx-in)
			if err := b.tokens.addLearned(ids[:n]); err != nil {
				return err
			}
			in, ids = (in+n)%b.NCtx, ids[n:]
		}
		return nil
	})
	if err != nil {
		return err
	}
	step, length := int64(b.NCtx), int64(b.NCtx)+1
	if bos >= 0 { // which each piece has of its own
		step = length
	}
	for at := start; at+1 < b.tokens.n; at += step {
		n := min(length, b.tokens.n-at)
		p.spans = append(p.spans, newSpan(at, int(n)))
		p.targets += int(n) - 1
	}
	return nil
}

// splitText finds where a text is divided, in front of its last fraction, counted in characters: at the
// start of the line that the point falls into, or behind the last blank before it when the
// line is long. All in bytes.
func (b *builder) splitText(path string) (at, size int64, err error) {
	b.watch.begin("reading", sizeOf(path))
	chars := int64(0)
	blank := true
	err = eachBlock(path, b.watch, func(block []byte) error {
		size += int64(len(block))
		chars += int64(utf8.RuneCount(block))
		blank = blank && len(bytes.TrimSpace(block)) == 0
		return nil
	})
	switch {
	case err != nil:
		return 0, 0, err
	case blank:
		return 0, 0, &FormatError{Path: path, Msg: "file is empty", Err: ErrEmpty}
	case b.ValFraction == 0:
		return size, size, nil
	}
	b.watch.begin("reading", sizeOf(path))
	at, err = splitAt(path, chars-int64(float64(chars)*b.ValFraction+0.5), b.watch)
	return at, size, err
}

// splitAt finds the place to divide a text at, near its character n.
func splitAt(path string, n int64, w *watch) (int64, error) {
	const longLine = 1024 // bytes
	var tail []byte       // the last bytes, up to offset
	offset := int64(0)
	err := eachBlock(path, w, func(block []byte) error {
		count := int64(utf8.RuneCount(block))
		part := block
		if count > n {
			part = block[:byteOffset(block, int(n))]
		}
		n -= count
		offset += int64(len(part))
		tail = append(tail, part...)
		tail = tail[max(len(tail)-longLine, 0):]
		if n < 0 {
			return errStopped
		}
		return nil
	})
	if err != nil && err != errStopped {
		return 0, err
	}
	for len(tail) > 0 && !utf8.RuneStart(tail[0]) {
		tail = tail[1:]
	}
	if i := bytes.LastIndexByte(tail, '\n'); i >= 0 {
		return offset - int64(len(tail)-i-1), nil
	}
	if i := bytes.LastIndexAny(tail, " \t"); i >= 0 {
		return offset - int64(len(tail)-i-1), nil
	}
	return offset, nil
}

// byteOffset returns where character n of b begins.
func byteOffset(b []byte, n int) int {
	at := 0
	for ; n > 0 && at < len(b); n-- {
		_, size := utf8.DecodeRune(b[at:])
		at += size
	}
	return at
}

// eachBlock reads a text block by block, each of whole characters. It must be UTF-8.
func eachBlock(path string, w *watch, do func(block []byte) error) error {
	f, err := open(path, w)
	if err != nil {
		return err
	}
	defer f.Close()
	line, column := 1, 0 // of the block's first byte
	buf := make([]byte, 0, 256<<10)
	for ended := false; !ended; {
		n, err := io.ReadFull(f, buf[len(buf):cap(buf)])
		buf = buf[:len(buf)+n]
		switch err {
		case nil:
		case io.EOF, io.ErrUnexpectedEOF:
			ended = true
		default:
			return err
		}
		block := buf
		if !ended {
			block = buf[:wholeRunes(buf)]
		}
		if i := badUTF8(block); i >= 0 {
			line += bytes.Count(block[:i], []byte("\n"))
			if start := bytes.LastIndexByte(block[:i], '\n'); start >= 0 {
				column = -start - 1
			}
			return &FormatError{Path: path, Line: line, Msg: notUTF8At(block[i], column+i, "of the line"), Err: errEncoding}
		}
		if err := do(block); err != nil {
			return err
		}
		line += bytes.Count(block, []byte("\n"))
		if start := bytes.LastIndexByte(block, '\n'); start >= 0 {
			column = -start - 1
		}
		column += len(block)
		buf = buf[:copy(buf, buf[len(block):])]
	}
	return nil
}

// wholeRunes returns how many bytes of b there are without a character that is cut off at its end.
func wholeRunes(b []byte) int {
	for i := 1; i < utf8.UTFMax && i <= len(b); i++ {
		if last := b[len(b)-i:]; utf8.RuneStart(last[0]) {
			if utf8.FullRune(last) {
				return len(b)
			}
			return len(b) - i
		}
	}
	return len(b)
}
