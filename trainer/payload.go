package trainer

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"

	"finetune/internal/hint"
	"finetune/run"
	"finetune/trainer/optim"
)

// The payload of a checkpoint, all little-endian; int is 8 bytes, signed:
//
//	magic      8    "FTCHKPT\n"
//	version    4
//	identity   96   identity: settings, base, data
//	step, epoch, index           int each
//	trained, raw tokens          int each
//	seconds, base loss           float64 each
//	losses     int count, then a float64 each
//	params     int count, then for each:
//	           int length of the name, the name, int elements,
//	           values, first moments, second moments: a float32 an element
//	tokens of the statistics     int
//	statistics int count, then for each:
//	           int length of the name, the name, int channels, a float32 a channel
//
// Version 4 is written where validations decide what the run ends with, and goes on with:
//
//	judged, step, waited         int each, of best
//	loss                         float64
//	values                       int 1 or 0; with 1 params as above, with the values alone
//
// Version 2 had one hash of 32 bytes over all parts of the identity in its place; it is still read.
const (
	payloadMagic   = "FTCHKPT\n"
	bestVersion    = 4
	payloadVersion = 3
	joinedVersion  = 2

	// maxLosses bounds the history that a checkpoint carries, to 8 MiB;
	// log.jsonl has the whole of it.
	maxLosses = 1 << 20
)

var order = binary.LittleEndian

// writePayload encodes c. Its slices must agree with its layout.
func writePayload(w io.Writer, c *checkpoint) error {
	optim.MustMatch(c.Layout.Params, c.Values)
	optim.MustMatch(c.Layout.Params, c.M)
	optim.MustMatch(c.Layout.Params, c.V)
	optim.MustMatch(c.Layout.Statistics, c.Statistics)
	e := &encoder{w: bufio.NewWriterSize(w, 64<<10)}
	e.bytes([]byte(payloadMagic))
	version := uint32(payloadVersion)
	if c.Best != nil {
		version = bestVersion
	}
	e.bytes(order.AppendUint32(nil, version))
	for _, part := range [][32]byte{c.Identity.Settings, c.Identity.Base, c.Identity.Data} {
		e.bytes(part[:])
	}
	for _, n := range []int64{int64(c.Step), int64(c.Cursor.Epoch), int64(c.Cursor.Index), c.Totals.TrainedTokens, c.Totals.RawTokens} {
		e.int(n)
	}
	e.float(c.Totals.Seconds)
	e.float(c.Totals.BaseValLoss)
	losses := c.Losses[max(0, len(c.Losses)-maxLosses):]
	e.int(int64(len(losses)))
	for _, loss := range losses {
		e.float(loss)
	}
	e.int(int64(len(c.Layout.Params)))
	for i, p := range c.Layout.Params {
		e.header(p)
		for _, data := range [][]float32{c.Values[i], c.M[i], c.V[i]} {
			e.floats(data)
		}
	}
	e.int(c.Tokens)
	e.int(int64(len(c.Layout.Statistics)))
	for i, p := range c.Layout.Statistics {
		e.header(p)
		e.floats(c.Statistics[i])
	}
	if c.Best != nil {
		e.best(c.Best, c.Layout.Params)
	}
	return e.flush()
}

// best writes what version 4 adds.
func (e *encoder) best(b *best, params []optim.Param) {
	for _, n := range []int{b.Judged, b.Step, b.Waited} {
		e.int(int64(n))
	}
	e.float(b.Loss)
	if b.Values == nil {
		e.int(0)
		return
	}
	optim.MustMatch(params, b.Values)
	e.int(1)
	e.int(int64(len(params)))
	for i, p := range params {
		e.header(p)
		e.floats(b.Values[i])
	}
}

// readPayload decodes what writePayload wrote. No count of the stream is
// trusted: names and lengths must equal those of the layout, the losses are few.
func readPayload(r io.Reader, layout layout) (*checkpoint, error) {
	d := &decoder{r: r}
	if string(d.bytes(len(payloadMagic))) != payloadMagic && d.err == nil {
		return nil, corrupt("payload is not a checkpoint's")
	}
	c := &checkpoint{Layout: layout}
	version := d.uint32()
	switch {
	case d.err != nil:
		return nil, d.err
	case version == payloadVersion || version == bestVersion:
		for _, part := range []*[32]byte{&c.Identity.Settings, &c.Identity.Base, &c.Identity.Data} {
			copy(part[:], d.bytes(len(part)))
		}
	case version == joinedVersion:
		hash := [32]byte(d.bytes(32))
		c.Joined = &hash
	default:
		return nil, hint.With(fmt.Errorf("is of version %d, want %d to %d", version, joinedVersion, bestVersion),
			"the run was made by another version of finetune, which can finish it")
	}
	c.Step, c.Cursor.Epoch, c.Cursor.Index = d.count(run.MaxCount), d.count(run.MaxCount), d.count(math.MaxInt)
	c.Totals.TrainedTokens, c.Totals.RawTokens = int64(d.count(math.MaxInt)), int64(d.count(math.MaxInt))
	c.Totals.Seconds, c.Totals.BaseValLoss = d.float(), d.float()
	for range d.count(min(maxLosses, c.Step)) {
		c.Losses = append(c.Losses, d.float())
		if d.err != nil {
			return nil, d.err
		}
	}
	if err := d.tensors(layout.Params, func(n int) {
		c.Values = append(c.Values, d.floats(n))
		c.M = append(c.M, d.floats(n))
		c.V = append(c.V, d.floats(n))
	}); err != nil {
		return nil, err
	}
	c.Tokens = int64(d.count(math.MaxInt))
	if err := d.tensors(layout.Statistics, func(n int) { c.Statistics = append(c.Statistics, d.floats(n)) }); err != nil {
		return nil, err
	}
	if version == bestVersion {
		return c, d.best(c)
	}
	return c, nil
}

// best reads what version 4 adds.
func (d *decoder) best(c *checkpoint) error {
	b := &best{Judged: d.count(c.Step), Step: d.count(c.Step), Waited: d.count(c.Step), Loss: d.float()}
	c.Best = b
	if d.count(1) == 0 {
		return d.err
	}
	return d.tensors(c.Layout.Params, func(n int) { b.Values = append(b.Values, d.floats(n)) })
}

// encoder writes the fields and keeps the first error.
type encoder struct {
	w   *bufio.Writer
	err error
}

func (e *encoder) bytes(b []byte) {
	if e.err == nil {
		_, e.err = e.w.Write(b)
	}
}

func (e *encoder) int(n int64)     { e.bytes(order.AppendUint64(nil, uint64(n))) }
func (e *encoder) float(x float64) { e.bytes(order.AppendUint64(nil, math.Float64bits(x))) }

func (e *encoder) floats(data []float32) {
	for _, x := range data {
		if e.err != nil {
			return
		}
		_, e.err = e.w.Write(order.AppendUint32(e.w.AvailableBuffer(), math.Float32bits(x)))
	}
}

// header writes name and length of a tensor.
func (e *encoder) header(p optim.Param) {
	e.int(int64(len(p.Name)))
	e.bytes([]byte(p.Name))
	e.int(int64(p.Len))
}

func (e *encoder) flush() error {
	if e.err == nil {
		e.err = e.w.Flush()
	}
	return e.err
}

// decoder reads the fields and keeps the first error, after which every field
// is zero.
type decoder struct {
	r   io.Reader
	err error
	buf [16 << 10]byte
}

// bytes returns the next n bytes, at most len(d.buf), valid until the next call.
func (d *decoder) bytes(n int) []byte {
	b := d.buf[:n]
	if d.err == nil {
		if _, err := io.ReadFull(d.r, b); err != nil {
			d.fail(err)
		}
	}
	if d.err != nil {
		clear(b)
	}
	return b
}

// fail records that the stream ended early or does not decode.
func (d *decoder) fail(err error) {
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		d.err = corrupt("payload ends too early")
		return
	}
	d.err = corrupt("%v", err)
}

func (d *decoder) uint32() uint32 { return order.Uint32(d.bytes(4)) }
func (d *decoder) uint64() uint64 { return order.Uint64(d.bytes(8)) }
func (d *decoder) float() float64 { return math.Float64frombits(d.uint64()) }

// count returns the next integer, which must be 0 to limit.
func (d *decoder) count(limit int) int {
	n := d.uint64()
	if n > uint64(limit) {
		if d.err == nil {
			d.err = corrupt("a count is %d, want 0 to %d", int64(n), limit)
		}
		return 0
	}
	return int(n)
}

// tensors reads as many tensors as there are in want, each by read after its header.
func (d *decoder) tensors(want []optim.Param, read func(n int)) error {
	if n := d.count(math.MaxInt); n != len(want) && d.err == nil {
		return fmt.Errorf("holds %d tensors, want %d", n, len(want))
	}
	for _, p := range want {
		if err := d.header(p); err != nil {
			return err
		}
		read(p.Len)
	}
	return d.err
}

// header reads name and length of a tensor and compares them with p's.
func (d *decoder) header(p optim.Param) error {
	name := string(d.bytes(d.count(len(d.buf))))
	n := d.count(math.MaxInt)
	switch {
	case d.err != nil:
		return d.err
	case name != p.Name:
		return fmt.Errorf("tensor %.80q: want %q", name, p.Name)
	case n != p.Len:
		return fmt.Errorf("tensor %q: has %d elements, want %d", name, n, p.Len)
	}
	return nil
}

// floats returns the next n elements.
func (d *decoder) floats(n int) []float32 {
	data := make([]float32, n)
	for rest := data; len(rest) > 0 && d.err == nil; {
		part := rest[:min(len(rest), len(d.buf)/4)]
		raw := d.bytes(4 * len(part))
		for i := range part {
			part[i] = math.Float32frombits(order.Uint32(raw[4*i:]))
		}
		rest = rest[len(part):]
	}
	return data
}
