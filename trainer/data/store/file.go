package store

import (
	"bufio"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"os"
	"path/filepath"
)

// A cache file:
//
//	0     magic "FTCACHE\x01"
//	8     key, 32 bytes
//	40    size of the file, offset and length of the directory, uint64 each
//	64    CRC-32C of all from byte 4096 on, uint32
//	68    1, uint32: the order of bytes of the machine that wrote it, as all numbers in the file are
//	72    CRC-32C of bytes 0 to 71, uint32
//	4096  sections, each from a multiple of 8 on; behind them the directory, JSON
//
// It gets its name when all of it is on the disk.

const (
	magic      = "FTCACHE\x01"
	headerSize = 4096
	headerUsed = 76
)

// ErrDamaged marks a cache file that is not what was written: cut off, changed, or of another kind.
var ErrDamaged = errors.New("damaged cache file")

// Key names what a cache file was made from.
type Key [32]byte

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// section is where a part of a file lies.
type section struct {
	Name      string
	From, Len int64 // bytes
}

// directory stands at the end of a file.
type directory struct {
	Sections []section
	About    json.RawMessage
}

// Writer writes a cache file, section by section. One goroutine at a time.
type Writer struct {
	path, temp string
	key        Key
	file       *os.File
	w          *bufio.Writer
	at         int64
	crc        uint32
	dir        directory
}

// Create begins the file path, under a temporary name: path with ".part" behind. What has that name is replaced, so that the caller
// holds a lock for path.
func Create(path string, key Key) (*Writer, error) {
	temp := path + partSuffix
	f, err := os.OpenFile(temp, os.O_RDWR|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return nil, err
	}
	if _, err := f.Write(make([]byte, headerSize)); err != nil {
		return nil, errors.Join(err, f.Close(), os.Remove(temp))
	}
	return &Writer{path: path, temp: temp, key: key, file: f, w: bufio.NewWriterSize(f, 256<<10), at: headerSize}, nil
}

const partSuffix = ".part"

// Section begins the next section.
func (w *Writer) Section(name string) error {
	if pad := -w.at & 7; pad > 0 {
		if _, err := w.put(make([]byte, pad)); err != nil {
			return err
		}
	}
	w.dir.Sections = append(w.dir.Sections, section{Name: name, From: w.at})
	return nil
}

// Write appends to the section.
func (w *Writer) Write(b []byte) (int, error) {
	n, err := w.put(b)
	w.dir.Sections[len(w.dir.Sections)-1].Len += int64(n)
	return n, err
}

func (w *Writer) put(b []byte) (int, error) {
	n, err := w.w.Write(b)
	w.at += int64(n)
	w.crc = crc32.Update(w.crc, castagnoli, b[:n])
	return n, err
}

// Commit writes the directory with what about holds, and gives the file its name when it is on the disk. The writer is done with.
func (w *Writer) Commit(about any) (*File, error) {
	f, err := w.commit(about)
	if err != nil {
		return nil, errors.Join(err, w.Discard())
	}
	return f, nil
}

func (w *Writer) commit(about any) (*File, error) {
	raw, err := json.Marshal(about)
	if err != nil {
		return nil, err
	}
	w.dir.About = raw
	dir, err := json.Marshal(w.dir)
	if err != nil {
		return nil, err
	}
	from := w.at
	if _, err := w.put(dir); err != nil {
		return nil, err
	}
	if err := w.w.Flush(); err != nil {
		return nil, err
	}
	if _, err := w.file.WriteAt(w.header(from, int64(len(dir))), 0); err != nil {
		return nil, err
	}
	if err := w.file.Sync(); err != nil {
		return nil, err
	}
	m, err := newMap(w.file, w.at)
	if err != nil {
		return nil, err
	}
	err = w.file.Close() // some systems rename no open file
	w.file = nil
	if err == nil {
		err = os.Rename(w.temp, w.path)
	}
	if err != nil {
		return nil, errors.Join(err, os.Remove(w.temp), m.Close())
	}
	syncDir(filepath.Dir(w.path))
	return newFile(m, w.dir), nil
}

func (w *Writer) header(from, n int64) []byte {
	order := binary.NativeEndian
	b := append([]byte(magic), w.key[:]...)
	b = order.AppendUint64(b, uint64(w.at))
	b = order.AppendUint64(b, uint64(from))
	b = order.AppendUint64(b, uint64(n))
	b = order.AppendUint32(b, w.crc)
	b = order.AppendUint32(b, 1)
	return order.AppendUint32(b, crc32.Checksum(b, castagnoli))
}

// View maps what was written, and tells where the section under way begins in it. The caller closes it.
func (w *Writer) View() (m Map, from int64, err error) {
	if err := w.w.Flush(); err != nil {
		return Map{}, 0, err
	}
	m, err = newMap(w.file, w.at)
	return m, w.dir.Sections[len(w.dir.Sections)-1].From, err
}

// Discard removes what was written, unless it was committed.
func (w *Writer) Discard() error {
	if w.file == nil {
		return nil
	}
	err := errors.Join(w.file.Close(), os.Remove(w.temp))
	w.file = nil
	return err
}

// File is a cache file that is mapped. Goroutines may share it.
type File struct {
	m        Map
	sections map[string][]byte
	about    []byte
}

func newFile(m Map, dir directory) *File {
	f := &File{m: m, sections: map[string][]byte{}, about: dir.About}
	for _, s := range dir.Sections {
		f.sections[s.Name] = m.Bytes[s.From : s.From+s.Len : s.From+s.Len]
	}
	return f
}

// Open maps a cache file after it has read all of it once, which progress, if not nil, is told of: in bytes, and ends it by an
// error. One that is not there is fs.ErrNotExist, one that is not what was written under this key ErrDamaged.
func Open(path string, key Key, progress func(done, size int64) error) (*File, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	dir, size, err := check(f, key, progress)
	if err != nil {
		return nil, err
	}
	m, err := newMap(f, size)
	if err != nil {
		return nil, err
	}
	return newFile(m, dir), nil
}

func check(f *os.File, key Key, progress func(done, size int64) error) (dir directory, size int64, err error) {
	damaged := func(what string) error { return fmt.Errorf("%w: %q: %s", ErrDamaged, f.Name(), what) }
	info, err := f.Stat()
	if err != nil {
		return dir, 0, err
	}
	b := make([]byte, headerSize)
	if _, err := io.ReadFull(f, b); err != nil {
		return dir, 0, damaged("no header")
	}
	order := binary.NativeEndian
	at := func(i int) int64 { return int64(order.Uint64(b[i:])) }
	size, from, n := at(40), at(48), at(56)
	switch {
	case string(b[:8]) != magic:
		return dir, 0, damaged("of another kind")
	case order.Uint32(b[72:]) != crc32.Checksum(b[:72], castagnoli) || order.Uint32(b[68:]) != 1:
		return dir, 0, damaged("header changed")
	case Key(b[8:40]) != key:
		return dir, 0, damaged("made from something else")
	case size != info.Size() || from < headerSize || n < 0 || from+n != size:
		return dir, 0, damaged(fmt.Sprintf("%d bytes, want %d", info.Size(), size))
	}
	crc, raw, err := readThrough(f, size, n, progress)
	if err != nil {
		return dir, 0, err
	}
	if crc != order.Uint32(b[64:]) || json.Unmarshal(raw, &dir) != nil {
		return dir, 0, damaged("content changed")
	}
	for _, s := range dir.Sections {
		if s.From < headerSize || s.Len < 0 || s.From > from || s.From+s.Len > from {
			return dir, 0, damaged("section outside")
		}
	}
	return dir, size, nil
}

// readThrough sums up all behind the header, and returns the last n bytes.
func readThrough(f *os.File, size, n int64, progress func(done, size int64) error) (crc uint32, end []byte, err error) {
	buf := make([]byte, 1<<20)
	for at := int64(headerSize); at < size; {
		k, err := f.ReadAt(buf[:min(int64(len(buf)), size-at)], at)
		if err != nil && (err != io.EOF || k == 0) {
			return 0, nil, err
		}
		crc = crc32.Update(crc, castagnoli, buf[:k])
		at += int64(k)
		if progress != nil {
			if err := progress(at, size); err != nil {
				return 0, nil, err
			}
		}
	}
	end = make([]byte, n)
	_, err = f.ReadAt(end, size-n)
	return crc, end, err
}

// Section returns the bytes of a section, nil if there is none. They are valid until Close, and are not to be changed.
func (f *File) Section(name string) []byte { return f.sections[name] }

// About reads what the file says of itself into v.
func (f *File) About(v any) error { return json.Unmarshal(f.about, v) }

// Mapped reports whether the sections are pages of the file, and not memory of the process.
func (f *File) Mapped() bool { return f.m.Mapped() }

// Close ends the mapping.
func (f *File) Close() error { return f.m.Close() }

// syncDir makes a new name in a folder last. Where a folder cannot be synced, a power cut costs the cache.
func syncDir(dir string) {
	if d, err := os.Open(dir); err == nil {
		d.Sync()
		d.Close()
	}
}
