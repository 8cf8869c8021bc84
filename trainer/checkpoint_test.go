package trainer

import (
	"bytes"
	"encoding/binary"
	"errors"
	"hash/crc32"
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"reflect"
	"runtime"
	"strings"
	"testing"

	"finetune/trainer/optim"

	"github.com/klauspost/compress/zstd"
)

// tinyCheckpoint has two parameters of 3 and 5 elements, a statistic of 2 channels, and every field set.
func tinyCheckpoint() *checkpoint {
	c := &checkpoint{
		Identity: identity{Settings: [32]byte{1, 2}, Base: [32]byte{3}, Data: [32]byte{4, 31: 5}},
		Step:     3,
		Cursor:   cursor{Epoch: 1, Index: 7},
		Totals:   totals{TrainedTokens: 1000, RawTokens: 1536, Seconds: 1.25, BaseValLoss: 5.27},
		Losses:   []float64{5.2, math.Inf(1), 4.75},
		Layout: layout{
			Params:     []optim.Param{{Name: "blk.0.attn_q.weight.dual_a", Len: 3, LRScale: 1}, {Name: "blk.0.attn_q.weight.dual_b", Len: 5, LRScale: 2, NoDecay: true}},
			Statistics: []optim.Param{{Name: "blk.0.attn_q.weight.in_sum2", Len: 2}},
		},
		Tokens:     900,
		Statistics: [][]float32{{12.5, 0.25}},
	}
	for i, p := range c.Layout.Params {
		for j, data := range []*[][]float32{&c.Values, &c.M, &c.V} {
			row := make([]float32, p.Len)
			for k := range row {
				row[k] = float32(i) + float32(j)/4 - float32(k)*0.1
			}
			*data = append(*data, row)
		}
	}
	return c
}

// judgedCheckpoint is tinyCheckpoint of a run whose validations count, with the parameters of an earlier step or without.
func judgedCheckpoint(values bool) *checkpoint {
	c := tinyCheckpoint()
	c.Best = &best{Judged: 3, Step: 2, Loss: 4.5, Waited: 1}
	if values {
		c.Best.Values = clones(c.M)
	}
	return c
}

// encoded returns the file of c.
func encoded(t *testing.T, c *checkpoint) []byte {
	t.Helper()
	var buf bytes.Buffer
	if err := encodeCheckpoint(&buf, c); err != nil {
		t.Fatal(err)
	}
	return buf.Bytes()
}

func decoded(file []byte, layout layout) (*checkpoint, error) {
	return decodeCheckpoint(bytes.NewReader(file), int64(len(file)), layout)
}

func TestCheckpointRoundTrip(t *testing.T) {
	for _, c := range []*checkpoint{tinyCheckpoint(), judgedCheckpoint(false), judgedCheckpoint(true)} {
		roundTrip(t, c)
	}
}

func roundTrip(t *testing.T, c *checkpoint) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "checkpoint-00000003.zst")
	if err := writeCheckpoint(path, c); err != nil {
		t.Fatal(err)
	}
	got, err := readCheckpoint(path, c.Layout)
	if err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(got, c) {
		t.Errorf("ReadCheckpoint = %+v, want %+v", got, c)
	}
	again := filepath.Join(t.TempDir(), "again.zst")
	if err := writeCheckpoint(again, got); err != nil {
		t.Fatal(err)
	}
	first, _ := os.ReadFile(path)
	second, _ := os.ReadFile(again)
	if !bytes.Equal(first, second) {
		t.Error("a checkpoint read and written again differs in bytes")
	}
}

// NaN survives bit for bit: a run whose base loss was not measured, a diverged moment.
func TestCheckpointKeepsNaN(t *testing.T) {
	c := tinyCheckpoint()
	c.Totals.BaseValLoss = math.NaN()
	c.V[1][2] = math.Float32frombits(0x7fc00123)
	got, err := decoded(encoded(t, c), c.Layout)
	if err != nil {
		t.Fatal(err)
	}
	if !math.IsNaN(got.Totals.BaseValLoss) || math.Float32bits(got.V[1][2]) != 0x7fc00123 {
		t.Errorf("base loss and moment = %v, %#x, want NaN, 0x7fc00123", got.Totals.BaseValLoss, math.Float32bits(got.V[1][2]))
	}
}

// The file is what any zstd tool reads: both frames, the second without content.
func TestCheckpointIsPlainZstd(t *testing.T) {
	c := tinyCheckpoint()
	dec, err := zstd.NewReader(nil)
	if err != nil {
		t.Fatal(err)
	}
	defer dec.Close()
	payload, err := dec.DecodeAll(encoded(t, c), nil)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.HasPrefix(payload, []byte(payloadMagic)) {
		t.Errorf("payload begins with %q, want %q", payload[:min(8, len(payload))], payloadMagic)
	}
}

func TestCheckpointCorruptAtEveryByte(t *testing.T) {
	c := tinyCheckpoint()
	file := encoded(t, c)
	for i := range file {
		for _, flip := range []byte{0x01, 0x80, 0xff} {
			bad := bytes.Clone(file)
			bad[i] ^= flip
			if _, err := decoded(bad, c.Layout); !errors.Is(err, ErrCheckpointCorrupt) {
				t.Fatalf("byte %d ^ %#02x: error = %v, want ErrCheckpointCorrupt", i, flip, err)
			}
		}
	}
}

func TestCheckpointTruncatedAtEveryByte(t *testing.T) {
	c := tinyCheckpoint()
	file := encoded(t, c)
	for n := range file {
		if _, err := decoded(file[:n], c.Layout); !errors.Is(err, ErrCheckpointCorrupt) {
			t.Fatalf("first %d of %d bytes: error = %v, want ErrCheckpointCorrupt", n, len(file), err)
		}
	}
}

// sealed returns a file with a right checksum around any payload, as an
// attacker would make it.
func sealed(t *testing.T, payload []byte) []byte {
	t.Helper()
	enc, err := zstd.NewWriter(nil, zstd.WithWindowSize(zstdWindow))
	if err != nil {
		t.Fatal(err)
	}
	defer enc.Close()
	body := enc.EncodeAll(payload, nil)
	return order.AppendUint32(append(body, footerMagic...), crc32.Checksum(body, castagnoli))
}

func TestCheckpointHostilePayload(t *testing.T) {
	c := tinyCheckpoint()
	var buf bytes.Buffer
	if err := writePayload(&buf, c); err != nil {
		t.Fatal(err)
	}
	payload := buf.Bytes()
	const (
		stepAt   = 8 + 4 + 3*32
		lossesAt = stepAt + 7*8
		paramsAt = lossesAt + 8 + 3*8
		nameAt   = paramsAt + 8
	)
	set := func(offset int, n uint64) []byte {
		bad := bytes.Clone(payload)
		binary.LittleEndian.PutUint64(bad[offset:], n)
		return bad
	}
	version := bytes.Clone(payload)
	version[8] = bestVersion + 1
	for _, tt := range []struct {
		name    string
		payload []byte
		corrupt bool
		want    string
	}{
		{"other magic", append([]byte("FTCHKPX\n"), payload[8:]...), true, "payload is not a checkpoint's"},
		{"newer version", version, false, "is of version 5, want 2 to 4"},
		{"empty", nil, true, "payload ends too early"},
		{"negative step", set(stepAt, 1<<63), true, "a count is -9223372036854775808, want 0 to 1073741824"},
		{"more losses than steps", set(lossesAt, 4), true, "a count is 4, want 0 to 3"},
		{"more tensors than parameters", set(paramsAt, 1<<40), false, "holds 1099511627776 tensors, want 2"},
		{"endless name", set(nameAt, 1<<40), true, "a count is 1099511627776, want 0 to 16384"},
		{"data after the end", append(bytes.Clone(payload), 0), true, "data goes on after the last tensor"},
		{"ends inside a tensor", payload[:len(payload)-3], true, "payload ends too early"},
	} {
		_, err := decoded(sealed(t, tt.payload), c.Layout)
		if err == nil || !strings.HasSuffix(err.Error(), tt.want) || errors.Is(err, ErrCheckpointCorrupt) != tt.corrupt {
			t.Errorf("%s: error = %v, want …%s (corrupt: %t)", tt.name, err, tt.want, tt.corrupt)
		}
	}
}

func TestCheckpointOfOtherParameters(t *testing.T) {
	c := tinyCheckpoint()
	file := encoded(t, c)
	renamed, resized := append([]optim.Param{}, c.Layout.Params...), append([]optim.Param{}, c.Layout.Params...)
	renamed[1].Name, resized[1].Len = "other", 6
	for _, tt := range []struct {
		name   string
		params []optim.Param
		want   string
	}{
		{"fewer", c.Layout.Params[:1], "holds 2 tensors, want 1"},
		{"renamed", renamed, `tensor "blk.0.attn_q.weight.dual_b": want "other"`},
		{"resized", resized, `tensor "blk.0.attn_q.weight.dual_b": has 5 elements, want 6`},
	} {
		_, err := decoded(file, layout{Params: tt.params, Statistics: c.Layout.Statistics})
		if err == nil || err.Error() != tt.want || errors.Is(err, ErrCheckpointCorrupt) {
			t.Errorf("%s: error = %v, want %s", tt.name, err, tt.want)
		}
	}
}

// 256 MiB of zeros compress to a few KiB. The reader must stop at the end of
// the parameters, holding no more than its window and buffers.
func TestCheckpointZipBombStaysSmall(t *testing.T) {
	c := tinyCheckpoint()
	var buf bytes.Buffer
	if err := writePayload(&buf, c); err != nil {
		t.Fatal(err)
	}
	var body bytes.Buffer
	enc, err := zstd.NewWriter(&body, zstd.WithWindowSize(zstdWindow), zstd.WithEncoderConcurrency(1))
	if err != nil {
		t.Fatal(err)
	}
	enc.Write(buf.Bytes())
	for zeros := make([]byte, 1<<20); buf.Len() > 0; buf.Next(1) { // a MiB for each byte of the payload
		enc.Write(zeros)
	}
	if err := enc.Close(); err != nil {
		t.Fatal(err)
	}
	file := order.AppendUint32(append(body.Bytes(), footerMagic...), crc32.Checksum(body.Bytes(), castagnoli))

	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	_, err = decoded(file, c.Layout)
	runtime.ReadMemStats(&after)
	if !errors.Is(err, ErrCheckpointCorrupt) {
		t.Errorf("error = %v, want ErrCheckpointCorrupt", err)
	}
	const limit = 16 << 20 // a window of 1 MiB, the decoder's tables and block buffers, with room
	if got := after.TotalAlloc - before.TotalAlloc; got > limit {
		t.Errorf("a file of %d bytes made the reader allocate %d bytes, want at most %d", len(file), got, limit)
	}
}

func TestReadCheckpointNamesTheFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "checkpoint-1.zst")
	if _, err := readCheckpoint(path, layout{}); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("missing file: error = %v, want fs.ErrNotExist", err)
	}
	if err := os.WriteFile(path, []byte("no checkpoint, but long enough"), 0o666); err != nil {
		t.Fatal(err)
	}
	want := `trainer: checkpoint "` + path + `": corrupt checkpoint: no checksum at its end: cut short, or no checkpoint`
	if _, err := readCheckpoint(path, layout{}); err == nil || err.Error() != want {
		t.Errorf("error = %v, want %s", err, want)
	}
}

func FuzzDecodeCheckpoint(f *testing.F) {
	c := tinyCheckpoint()
	var payload bytes.Buffer
	if err := writePayload(&payload, c); err != nil {
		f.Fatal(err)
	}
	f.Add(payload.Bytes())
	f.Add(payload.Bytes()[:60])
	var judged bytes.Buffer
	if err := writePayload(&judged, judgedCheckpoint(true)); err != nil {
		f.Fatal(err)
	}
	f.Add(judged.Bytes())
	f.Fuzz(func(t *testing.T, payload []byte) {
		got, err := readPayload(bytes.NewReader(payload), c.Layout)
		if err != nil {
			return
		}
		var again bytes.Buffer
		if err := writePayload(&again, got); err != nil {
			t.Fatal(err)
		}
		if !bytes.HasPrefix(payload, again.Bytes()) {
			t.Errorf("decoded and encoded again: %x, want the start of %x", again.Bytes(), payload)
		}
	})
}
