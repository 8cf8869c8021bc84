package data

import (
	"bufio"
	"fmt"
	"io"
	"strings"
	"testing"
	"testing/iotest"
)

// TestLongArraysReadLikeShortOnes: element by element come the rows, lines and errors that the whole gives.
func TestLongArraysReadLikeShortOnes(t *testing.T) {
	type reading = func(yield func(row, error) bool) error
	read := func(do reading) string {
		var b strings.Builder
		err := do(func(r row, err error) bool {
			fmt.Fprintf(&b, "line %d %s %v\n", r.line, r.object, err)
			return true
		})
		fmt.Fprint(&b, err)
		return b.String()
	}
	for _, text := range []string{
		`[]`, "\n [ ]\n", `[{"text": "a"}]`, "[\n{\"text\": \"a\\\"]},\"},\n\n {\"text\": [1, {\"b\": \"}\"}]}\n]\n",
		`[{"text": "a"},]`, "[{\"text\": \"a\"}\n{\"text\": \"b\"}]", "[{\"text\": \"a\"},\n{\"text\": \"b\"", `[{"text": "a"}`, `[{"text": "a"},`, `[`,
		`[{"text": "a"}] x`, "[{\"text\": \"a\"}]\n[]", `[1, "a", null, true, {"text": "b"}]`, `[{"text": NaN}]`, `[{'text': 'a'}]`, "[{\"text\": \"a\"},\n{\"text\": \"a\",}]",
		"[{\"text\": \"a\"},\n{\"data\": [{\"text\": \"b\"}, {\"text\": \"c\"}]}]", "[{\"text\": \"\xff\"}]", "[{\"text\": \"猫\\\\\"}, {\"text\": \"\\u0022\"}]",
	} {
		whole := read(func(yield func(row, error) bool) error { return arrayRows([]byte(text), 3, yield) })
		parts := read(func(yield func(row, error) bool) error {
			a := &arrayReader{r: bufio.NewReaderSize(iotest.OneByteReader(strings.NewReader(text)), 16), line: 3}
			return a.rows(yield)
		})
		if sameRefusal := firstLines(whole) == firstLines(parts) && !strings.HasSuffix(whole, "<nil>") && !strings.HasSuffix(parts, "<nil>"); whole != parts && !sameRefusal {
			t.Errorf("%q:\n%s\nwant\n%s", text, parts, whole)
		} else if whole != parts {
			t.Logf("%q: %s, the whole %s", text, parts, whole)
		}
	}
}

// firstLines drops the error at the end.
func firstLines(s string) string { return s[:strings.LastIndexByte(s, '\n')+1] }

// TestAnArrayOfManyMegabytes goes through a file.
func TestAnArrayOfManyMegabytes(t *testing.T) {
	const n = 120_000
	text := "[" + strings.Repeat("{\"text\": \""+strings.Repeat("once upon a time ", 10)+"\"},\n", n-1) + "{\"text\": \"end\"}\n]\n"
	if len(text) < wholeArray {
		t.Fatalf("%d bytes are read at once", len(text))
	}
	rows, last := 0, 0
	err := jsonRows("a", bufio.NewReader(io.MultiReader(strings.NewReader(text))), func(r row, err error) bool {
		rows, last = rows+1, r.line
		return err == nil
	})
	if err != nil || rows != n || last != n {
		t.Errorf("%d rows, the last in line %d, %v, want %d", rows, last, err, n)
	}
}
