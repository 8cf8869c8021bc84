package hostile

import (
	"bytes"
	"compress/gzip"
	"encoding/binary"
	"hash/crc32"
	"io"
	"math/rand/v2"
	"regexp"
	"slices"
	"strings"

	"github.com/klauspost/compress/zstd"
)

// tokens of what people write into files: numbers, words, strings, punctuation.
var tokens = regexp.MustCompile(`-?\d+(\.\d+)?([eE][-+]?\d+)?|"(\\.|[^"\\])*"|\w+|\S`)

// snippets take the place of a token.
var snippets = []string{"0", "1", "-1", "2", "1e308", "-1e308", "1e-320", "1e999", "NaN", "Infinity", "null", "true", "false", `""`, `"a"`, "[]", "{}", "[[]]", `{"a":1}`, "9223372036854775807", "9223372036854775808",
	"4294967296", "2147483648", "-2147483649", "1000000000", "0.5", `"\ud800"`, `"\u0000"`, "\x00", "\xff\xfe", "\ufeff", "\u202e", `"../../x"`, `"/dev/zero"`, `"` + strings.Repeat("x", 100000) + `"`, strings.Repeat("[", 20000),
	strings.Repeat(`{"a":`, 5000), "&a [*a]", "*a", "!!binary x", "<<: *a", "---", "{{", "}}", "{%", "%}", "{% for x in range(1000000000) %}{{ x }}{% endfor %}", "{{ 'a' * 1000000000 }}", "{{ range(10**9) | list }}",
	"{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}", "{{ messages[0].content[1:2:0] }}", "{{ (1).__class__ }}", "{% set a = 2 ** 999999999 %}", "{{ '%999999999d' % 1 }}", "\n", "\t", "\r\n", ",", ":"}

// MutateText returns a text with a few of its tokens or lines changed, and what was done.
func MutateText(r *rand.Rand, b []byte) (mutated []byte, what string) {
	if r.IntN(8) == 0 {
		return mutateBytes(r, b)
	}
	for range 1 + r.IntN(3) {
		places := tokens.FindAllIndex(b, -1)
		if len(places) == 0 {
			return []byte(pick(r, snippets)), "a text"
		}
		at := pick(r, places)
		switch r.IntN(6) {
		case 0: // nothing in its place
			b = slices.Concat(b[:at[0]], b[at[1]:])
		case 1: // another one of the same text
			other := pick(r, places)
			b = slices.Concat(b[:at[0]], b[other[0]:other[1]], b[at[1]:])
		case 2: // a line more, less or elsewhere
			lines := bytes.SplitAfter(b, []byte("\n"))
			i, j := r.IntN(len(lines)), r.IntN(len(lines))
			if r.IntN(2) == 0 {
				lines = slices.Insert(slices.Clone(lines), i, lines[j])
			} else {
				lines = slices.Delete(slices.Clone(lines), i, i+1)
			}
			b = slices.Concat(lines...)
		default:
			b = slices.Concat(b[:at[0]], []byte(pick(r, snippets)), b[at[1]:])
		}
	}
	return b, "text"
}

// MutateSafetensors changes the header of a safetensors file, whose length stays right, or the bytes.
func MutateSafetensors(r *rand.Rand, b []byte) (mutated []byte, what string) {
	if r.IntN(4) == 0 || len(b) < 8 {
		return mutateBytes(r, b)
	}
	n := binary.LittleEndian.Uint64(b)
	header, what := MutateText(r, b[8:8+n])
	data := b[8+n:]
	if r.IntN(4) == 0 && len(data) > 0 {
		data, _ = mutateBytes(r, data)
	}
	return slices.Concat(binary.LittleEndian.AppendUint64(nil, uint64(len(header))), header, data), "header's " + what
}

// checkpointFooter is what trainer writes behind a checkpoint's payload, before its checksum: the magic of a frame that is
// skipped, and its length.
const checkpointFooter = "\x5f\x2a\x4d\x18\x0c\x00\x00\x00finetune"

// MutateCheckpoint changes a checkpoint's payload below its checksum, which is made right again, or the file's bytes.
func MutateCheckpoint(r *rand.Rand, b []byte) (mutated []byte, what string) {
	footer := len(checkpointFooter) + 4
	if r.IntN(3) == 0 || len(b) < footer {
		return mutateBytes(r, b)
	}
	decoder, err := zstd.NewReader(nil)
	if err != nil {
		panic(err)
	}
	defer decoder.Close()
	payload, err := decoder.DecodeAll(b[:len(b)-footer], nil)
	if err != nil {
		panic(err)
	}
	payload, what = mutateBytes(r, payload)
	if len(payload) > 8 && r.IntN(2) == 0 { // a length, a count, a number
		i := r.IntN(min(len(payload), 2048) - 7)
		copy(payload[i:], binary.LittleEndian.AppendUint64(nil, uint64(pick(r, wholes)))[:pick(r, []int{4, 8})])
	}
	b = append(compressed(payload, zstd.WithWindowSize(1<<20)), checkpointFooter...)
	sum := crc32.Checksum(b[:len(b)-len(checkpointFooter)], crc32.MakeTable(crc32.Castagnoli))
	return binary.LittleEndian.AppendUint32(b, sum), "payload's " + what
}

func compressed(b []byte, options ...zstd.EOption) []byte {
	encoder, err := zstd.NewWriter(nil, options...)
	if err != nil {
		panic(err)
	}
	return encoder.EncodeAll(b, nil)
}

// MutateArchive changes a text that gzip has compressed, inside or outside of its compression.
func MutateArchive(r *rand.Rand, b []byte) (mutated []byte, what string) {
	if r.IntN(2) == 0 {
		return mutateBytes(r, b)
	}
	unzip, err := gzip.NewReader(bytes.NewReader(b))
	if err != nil {
		panic(err)
	}
	plain, err := io.ReadAll(unzip)
	if err != nil {
		panic(err)
	}
	inner, what := MutateText(r, plain)
	return zipped(inner), "compressed " + what
}

func zipped(b []byte) []byte {
	var to bytes.Buffer
	w := gzip.NewWriter(&to)
	w.Write(b)
	w.Close()
	return to.Bytes()
}
