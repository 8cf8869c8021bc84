package main

import (
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"
	"unicode"

	"finetune/internal/hint"
)

// clock returns a duration in seconds as people read it: 42 s, 3 min 5 s, 2 h 10 min.
func clock(seconds float64) string {
	d := time.Duration(seconds * float64(time.Second)).Round(time.Second)
	h, m, s := int(d.Hours()), int(d.Minutes())%60, int(d.Seconds())%60
	switch {
	case h > 0:
		return fmt.Sprintf("%d h %d min", h, m)
	case m > 0:
		return fmt.Sprintf("%d min %d s", m, s)
	}
	return fmt.Sprintf("%d s", s)
}

// mebibytes returns a size of n bytes as people read it: 1,234 MiB.
func mebibytes(n int64) string { return thousands(toMebibytes(n)) + " MiB" }

func toMebibytes(n int64) int64 { return (n + 1<<19) >> 20 }

// counted returns a number with its noun, for nouns whose plural is not made with an s.
func counted(n int, one, many string) string {
	if n == 1 {
		return "1 " + one
	}
	return thousands(int64(n)) + " " + many
}

// shellWord returns s as a shell takes it.
func shellWord(s string) string {
	special := func(r rune) bool {
		return !strings.ContainsRune("+-_./:,@%=", r) && (r < '0' || r > '9') && (r < 'A' || r > 'Z') && (r < 'a' || r > 'z')
	}
	if s != "" && !strings.ContainsFunc(s, special) {
		return s
	}
	return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'"
}

// scaled is an adapter as the command line names it: a path, and after a colon the scale it is applied with.
type scaled struct {
	path  string
	scale float32
}

// maxScale is the largest scale of an adapter that is not a mistake.
const maxScale = 1e4

// parseScaled reads PATH or PATH:SCALE. A colon that no number follows belongs to the path.
func parseScaled(s string) (scaled, error) {
	if s == "" {
		return scaled{}, hint.With(&usageError{`--adapter: want a path, got ""`}, "an adapter is a GGUF LoRA or a run directory, PATH or PATH:SCALE")
	}
	if i := strings.LastIndexByte(s, ':'); i > 0 {
		scale, err := strconv.ParseFloat(s[i+1:], 32)
		switch {
		case (err == nil || errors.Is(err, strconv.ErrRange)) && !(math.Abs(scale) <= maxScale):
			return scaled{}, &usageError{fmt.Sprintf("--adapter %q: want a scale from -%g to %g", s, maxScale, maxScale)}
		case err == nil:
			return scaled{s[:i], float32(scale)}, nil
		}
	}
	return scaled{s, 1}, nil
}

// maxLine is where a line of talk is cut, in characters: texts of files and templates, which errors quote, have any length.
const maxLine = 2000

// asText returns a line as a terminal may be given it: what controls one is shown as in Go's source, and a line that is too
// long is cut.
func asText(text string) string {
	var b strings.Builder
	n := 0
	for _, r := range text {
		if n++; n > maxLine {
			b.WriteString(" …")
			break
		}
		if unicode.IsPrint(r) || r == '\t' {
			b.WriteRune(r)
			continue
		}
		quoted := strconv.QuoteRune(r)
		b.WriteString(quoted[1 : len(quoted)-1])
	}
	return b.String()
}
