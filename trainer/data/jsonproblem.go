package data

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"regexp"
	"strings"
)

// parseObject reads one JSON object. Its errors have no path and line yet.
func parseObject(b []byte, want string) (object, error) {
	var o object
	if err := json.Unmarshal(b, &o); err != nil {
		if _, wrongKind := err.(*json.UnmarshalTypeError); wrongKind {
			return nil, badf("record is %s, want a JSON object", jsonKind(b))
		}
		at := len(b)
		if s, ok := errors.AsType[*json.SyntaxError](err); ok {
			at = int(max(s.Offset-1, 0))
		}
		return nil, badf("%s; %s", jsonProblem(err, b, at), want)
	}
	if o == nil {
		return nil, badf("record is null, want a JSON object")
	}
	if half := loneSurrogate(b); half != "" {
		return nil, badf("%s is half of a character, want it whole or left out", half)
	}
	return o, nil
}

var surrogates = regexp.MustCompile(`\\+u[dD][89abAB][0-9a-fA-F]{2}(\\u[dD][c-fC-F][0-9a-fA-F]{2})?|\\+u[dD][c-fC-F][0-9a-fA-F]{2}`)

// loneSurrogate returns the first escape of half a character, which encoding/json would read as U+FFFD without a word.
func loneSurrogate(b []byte) string {
	if !bytes.Contains(b, []byte(`\ud`)) && !bytes.Contains(b, []byte(`\uD`)) {
		return ""
	}
	for _, m := range surrogates.FindAll(b, -1) {
		slashes := len(m) - len(bytes.TrimLeft(m, `\`))
		if slashes%2 == 1 && len(m)-slashes == len("ud83d") {
			return string(m[slashes-1:])
		}
	}
	return ""
}

// jsonProblem says what is wrong at a byte of a JSON text, in words for someone who looks at the file: most often it was
// written by hand or by another language.
func jsonProblem(err error, b []byte, at int) string {
	at = min(at, len(b))
	before, rest := bytes.TrimRight(b[:at], " \t\r\n"), b[at:]
	word := func(names ...string) string {
		for _, w := range names {
			if from := b[max(at-1, 0):]; bytes.HasPrefix(rest, []byte(w)) || bytes.HasPrefix(from, []byte(w)) || bytes.HasPrefix(from, []byte("-"+w)) {
				return w
			}
		}
		return ""
	}
	switch {
	case err == io.EOF || err == io.ErrUnexpectedEOF || strings.Contains(err.Error(), "unexpected end"):
		return "JSON ends too early"
	case bytes.HasPrefix(rest, []byte("'")):
		return "single quotes are no JSON, which has double quotes"
	case bytes.HasSuffix(before, []byte(",")) && len(rest) > 0 && (rest[0] == ']' || rest[0] == '}'):
		return "comma behind the last element"
	case bytes.HasPrefix(rest, []byte(",")):
		return "comma behind the object"
	case word("NaN", "Infinity", "None", "True", "False", "undefined") != "":
		return word("NaN", "Infinity", "None", "True", "False", "undefined") + " is no JSON value, which has null, true and false"
	case bytes.HasPrefix(rest, []byte("//")), bytes.HasPrefix(rest, []byte("#")), bytes.HasPrefix(rest, []byte("/*")):
		return "a comment is no JSON"
	}
	return strings.TrimPrefix(err.Error(), "json: ")
}
