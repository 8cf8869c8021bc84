// Package tfevents writes numbers over steps as TensorBoard reads them: TFRecords of Event messages.
//
// A record is
//
//	length    uint64, little-endian as all of it
//	checksum  uint32, masked CRC-32C of the length's 8 bytes
//	data      an Event
//	checksum  uint32, of the data
//
// (tensorflow/core/lib/io/record_writer.h), where a mask turns the CRC right by 15 bits and adds a constant. An Event
// (tensorflow/core/util/event.proto) has the wall time in seconds (1, double), the step (2, int64), and either the version of
// the file (3, string) or a Summary (5); that has values (1), each with a tag (1, string) and a number (2, float).
package tfevents

import (
	"encoding/binary"
	"hash/crc32"
	"io"
	"math"
	"time"

	"google.golang.org/protobuf/encoding/protowire"
)

// fileVersion begins every file.
const fileVersion = "brain.Event:2"

// The numbers of the fields.
const (
	eventTime, eventStep, eventVersion, eventSummary = 1, 2, 3, 5
	summaryValue                                     = 1
	valueTag, valueNumber                            = 1, 2
)

// Scalar is a number by its tag, such as "loss/train".
type Scalar struct {
	Tag   string
	Value float64 // written as a float32
}

// Begin writes what a file starts with.
func Begin(w io.Writer, at time.Time) error {
	event := appendDouble(nil, eventTime, seconds(at))
	event = protowire.AppendTag(event, eventVersion, protowire.BytesType)
	return record(w, protowire.AppendString(event, fileVersion))
}

// Write writes the numbers of a step, in one call of w.
func Write(w io.Writer, at time.Time, step int, scalars []Scalar) error {
	var summary []byte
	for _, s := range scalars {
		value := protowire.AppendTag(nil, valueTag, protowire.BytesType)
		value = protowire.AppendString(value, s.Tag)
		value = protowire.AppendTag(value, valueNumber, protowire.Fixed32Type)
		value = protowire.AppendFixed32(value, math.Float32bits(float32(s.Value)))
		summary = protowire.AppendTag(summary, summaryValue, protowire.BytesType)
		summary = protowire.AppendBytes(summary, value)
	}
	event := appendDouble(nil, eventTime, seconds(at))
	event = protowire.AppendTag(event, eventStep, protowire.VarintType)
	event = protowire.AppendVarint(event, uint64(step))
	event = protowire.AppendTag(event, eventSummary, protowire.BytesType)
	return record(w, protowire.AppendBytes(event, summary))
}

func appendDouble(b []byte, field protowire.Number, x float64) []byte {
	return protowire.AppendFixed64(protowire.AppendTag(b, field, protowire.Fixed64Type), math.Float64bits(x))
}

// seconds returns a time since 1970.
func seconds(t time.Time) float64 { return float64(t.UnixMicro()) / 1e6 }

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// masked returns the checksum of a part of a record.
func masked(b []byte) uint32 {
	sum := crc32.Checksum(b, castagnoli)
	return (sum>>15 | sum<<17) + 0xa282ead8
}

// record writes one.
func record(w io.Writer, data []byte) error {
	b := binary.LittleEndian.AppendUint64(nil, uint64(len(data)))
	b = binary.LittleEndian.AppendUint32(b, masked(b))
	b = append(b, data...)
	_, err := w.Write(binary.LittleEndian.AppendUint32(b, masked(data)))
	return err
}
