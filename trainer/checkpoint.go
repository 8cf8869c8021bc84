package trainer

import (
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"os"

	"finetune/internal/atomicfile"
	"finetune/trainer/optim"

	"github.com/klauspost/compress/zstd"
)

// A checkpoint file is a standard .zst file of two frames: a compressed frame
// with the payload (see checkpointPayload), then a skippable frame, which any
// zstd tool passes over, with a checksum of all bytes before it:
//
//	offset  bytes
//	0       4      0x184D2A5F, the magic of a skippable frame
//	4       4      12, the length of what follows
//	8       8      "finetune"
//	16      4      CRC-32C of the file up to this frame
//
// The outer checksum also covers the bits of a zstd header that do not change
// what is decoded, so that a flip of any bit is found before decoding starts.
const (
	footerMagic = "\x5f\x2a\x4d\x18\x0c\x00\x00\x00finetune"
	footerBytes = len(footerMagic) + 4

	// A window of 1 MiB bounds what a decoder reserves for a hostile file.
	zstdWindow = 1 << 20
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// ErrCheckpointCorrupt is what errors.Is finds in the error of readCheckpoint
// when the bytes are not those of any checkpoint that writeCheckpoint wrote.
var ErrCheckpointCorrupt = errors.New("corrupt checkpoint")

// checkpoint is all that a run needs to continue as if it had never stopped:
// together with the Config, the base and the data it decides every later step.
// There is no generator state, since each random choice of a run is a function
// of the seed and the cursor.
type checkpoint struct {
	Identity identity  // of the run
	Joined   *[32]byte // in its place, read from a file of version 2
	Step     int       // optimizer steps taken
	Cursor   cursor    // the next training window
	Totals   totals    // for the summary; no step depends on them
	Losses   []float64
	// The training loss of each step so far, Losses[Step-1] the last; only the
	// newest maxLosses are kept.

	Layout layout      // of what follows
	Values [][]float32 // the factors, Layout.Params[i].Len elements each
	M, V   [][]float32 // AdamW's moments, as Values

	Best *best // nil: no validation decides anything

	Tokens     int64       // that Statistics are over
	Statistics [][]float32 // sums of squares, Layout.Statistics[i].Len channels each
}

// layout is the names and lengths of the tensors of a checkpoint.
type layout struct {
	Params     []optim.Param // what is trained; LRScale is not stored
	Statistics []optim.Param // activation statistics of the adapted weights
}

// cursor is a place in the training data.
type cursor struct {
	Epoch int // passes finished
	Index int // windows of the current pass that were used, in the pass's order
}

// totals are sums over a run, continued when it is resumed.
type totals struct {
	TrainedTokens int64   // tokens that counted in a loss
	RawTokens     int64   // tokens that went through the model, padding included
	Seconds       float64 // wall-clock time in training steps
	BaseValLoss   float64 // validation loss before the first step; NaN = not measured
}

// writeCheckpoint writes c to path, atomically.
func writeCheckpoint(path string, c *checkpoint) error {
	return atomicfile.Write(path, func(w io.Writer) error { return encodeCheckpoint(w, c) })
}

// readCheckpoint reads the checkpoint at path, which must hold exactly the
// tensors of the layout by name, order and length; the Params of the result carry
// their LRScale. What it allocates is bounded by the layout, whatever the file
// says. An error names the file and errors.Is ErrCheckpointCorrupt unless the
// file could not be read, is of another version, or is a sound checkpoint of
// other parameters.
func readCheckpoint(path string, layout layout) (*checkpoint, error) {
	if info, err := os.Stat(path); err == nil && !info.Mode().IsRegular() {
		return nil, fmt.Errorf("trainer: checkpoint %q: not a regular file", path) // a named pipe would be waited for
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	c, err := decodeCheckpoint(f, info.Size(), layout)
	if err != nil {
		return nil, fmt.Errorf("trainer: checkpoint %q: %w", path, err)
	}
	return c, nil
}

// encodeCheckpoint writes both frames. One encoder goroutine, a fixed window
// and level: the same checkpoint gives the same bytes.
func encodeCheckpoint(w io.Writer, c *checkpoint) error {
	sum := crc32.New(castagnoli)
	enc, err := zstd.NewWriter(io.MultiWriter(w, sum),
		zstd.WithEncoderConcurrency(1), zstd.WithWindowSize(zstdWindow), zstd.WithEncoderLevel(zstd.SpeedFastest))
	if err != nil {
		return err
	}
	if err := writePayload(enc, c); err != nil {
		enc.Close()
		return err
	}
	if err := enc.Close(); err != nil {
		return err
	}
	footer := order.AppendUint32([]byte(footerMagic), sum.Sum32())
	_, err = w.Write(footer)
	return err
}

// decodeCheckpoint checks the footer, then decodes the payload.
func decodeCheckpoint(r io.ReaderAt, size int64, layout layout) (*checkpoint, error) {
	body := size - int64(footerBytes)
	if body < 0 {
		return nil, corrupt("%d bytes are too few", size)
	}
	if err := checkFooter(r, body); err != nil {
		return nil, err
	}
	dec, err := zstd.NewReader(io.NewSectionReader(r, 0, body),
		zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxWindow(zstdWindow), zstd.WithDecoderLowmem(true))
	if err != nil {
		return nil, err
	}
	defer dec.Close()
	c, err := readPayload(dec, layout)
	if err != nil {
		return nil, err
	}
	if n, err := io.CopyN(io.Discard, dec, 1); n != 0 || err != io.EOF {
		return nil, corrupt("data goes on after the last tensor")
	}
	return c, nil
}

// checkFooter compares the checksum at offset body with the bytes before it.
func checkFooter(r io.ReaderAt, body int64) error {
	footer := make([]byte, footerBytes)
	if _, err := r.ReadAt(footer, body); err != nil {
		return err
	}
	if string(footer[:len(footerMagic)]) != footerMagic {
		return corrupt("no checksum at its end: cut short, or no checkpoint")
	}
	sum := crc32.New(castagnoli)
	if _, err := io.Copy(sum, io.NewSectionReader(r, 0, body)); err != nil {
		return err
	}
	if want, got := order.Uint32(footer[len(footerMagic):]), sum.Sum32(); got != want {
		return corrupt("checksum is %08x, want %08x", got, want)
	}
	return nil
}

// corrupt returns an ErrCheckpointCorrupt that says what was found.
func corrupt(format string, args ...any) error {
	return fmt.Errorf("%w: %s", ErrCheckpointCorrupt, fmt.Sprintf(format, args...))
}
