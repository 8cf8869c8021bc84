// Package store holds what is too large for the memory: spools, which collect bytes and move to a file when there are many,
// and cache files, which outlive the process that made them and are read by mapping them.
package store

import (
	"bufio"
	"errors"
	"io"
	"os"
	"runtime"
)

// Spool collects bytes: in memory up to a limit, then in a file of its own that nobody else sees and that is gone with the process,
// however it ends (on systems that let an open file be removed). The zero value keeps nothing in memory and has its file in the
// system's folder for temporary files. One goroutine at a time.
type Spool struct {
	Limit int    // bytes that stay in memory
	Dir   string // of the file, made when it is needed; where it cannot be made, and "", os.TempDir

	mem   []byte
	file  *os.File
	w     *bufio.Writer
	n     int64
	views []Map
}

// Len returns how many bytes were written.
func (s *Spool) Len() int64 { return s.n }

// Held returns how many bytes are in memory.
func (s *Spool) Held() int64 { return int64(cap(s.mem)) }

// Write appends.
func (s *Spool) Write(b []byte) (int, error) {
	if s.file == nil && s.n+int64(len(b)) <= int64(s.Limit) {
		s.mem = append(s.mem, b...)
		s.n += int64(len(b))
		return len(b), nil
	}
	if s.file == nil {
		if err := s.spill(); err != nil {
			return 0, err
		}
	}
	n, err := s.w.Write(b)
	s.n += int64(n)
	return n, err
}

// spill moves what there is to a file.
func (s *Spool) spill() error {
	dir := s.Dir
	if dir != "" && os.MkdirAll(dir, 0o700) != nil {
		dir = ""
	}
	file, err := os.CreateTemp(dir, ".finetune-*.spool")
	if err != nil {
		return err
	}
	if runtime.GOOS != "windows" {
		os.Remove(file.Name())
	}
	s.file, s.w = file, bufio.NewWriterSize(file, 256<<10)
	_, err = s.w.Write(s.mem)
	s.mem = nil
	return err
}

// Bytes returns all that was written, in memory or mapped. It is valid until Close, and is not to be changed.
func (s *Spool) Bytes() ([]byte, error) {
	if s.file == nil {
		return s.mem, nil
	}
	if err := s.w.Flush(); err != nil {
		return nil, err
	}
	m, err := newMap(s.file, s.n)
	s.views = append(s.views, m)
	return m.Bytes, err
}

// Reader returns a reader of all that was written. There may be several at a time, until Close.
func (s *Spool) Reader() (io.ReadSeeker, error) {
	if s.file == nil {
		return io.NewSectionReader(readerAt(s.mem), 0, s.n), nil
	}
	if err := s.w.Flush(); err != nil {
		return nil, err
	}
	return io.NewSectionReader(s.file, 0, s.n), nil
}

// Close gives memory and file back.
func (s *Spool) Close() error {
	var err error
	for _, m := range s.views {
		err = errors.Join(err, m.Close())
	}
	if s.file != nil {
		err = errors.Join(err, s.file.Close())
		if runtime.GOOS == "windows" {
			err = errors.Join(err, os.Remove(s.file.Name()))
		}
	}
	*s = Spool{Limit: s.Limit, Dir: s.Dir}
	return err
}

// readerAt reads from memory.
type readerAt []byte

func (b readerAt) ReadAt(p []byte, off int64) (int, error) {
	if off >= int64(len(b)) {
		return 0, io.EOF
	}
	n := copy(p, b[off:])
	if n < len(p) {
		return n, io.EOF
	}
	return n, nil
}
