package data

import (
	"strings"
	"unicode/utf8"
)

// textWindows cuts plain texts into windows. Each is tokenized whole, names of special
// tokens being text like any other. A vocabulary with a BOS gives windows
//
//	inputs  BOS t0 … t(n-2)    targets  t0 … t(n-1)
//
// and one without inputs t0 … t(n-1), targets t1 … tn, the next window beginning at tn. Either
// way every token is a target once (but for t0 without a BOS). The last window is padded.
func textWindows(path string, texts []string, o options) (*Windows, error) {
	var pieces []example
	for _, text := range texts {
		ids, err := o.Tokenizer.Tokenize(text, false, false)
		if err != nil {
			return nil, located(err, path, 0)
		}
		pieces = append(pieces, cutText(ids, o)...)
	}
	if strings.Join(texts, "") == "" {
		return nil, &FormatError{Path: path, Msg: "no text", Err: ErrEmpty}
	}
	w := pack(pieces, o.NCtx, Stats{Records: len(texts)})
	if w.stats.TrainedTokens == 0 {
		return nil, &FormatError{Path: path, Msg: "no trained token: the text is too short", Err: ErrNoTrained}
	}
	return w, nil
}

func cutText(ids []int32, o options) []example {
	learned := make([]bool, o.NCtx+1) // shared by all pieces
	for i := range learned {
		learned[i] = true
	}
	var pieces []example
	if bos := o.Tokenizer.BOS(); o.Tokenizer.AddBOS() && bos >= 0 {
		for at := 0; at < len(ids); at += o.NCtx {
			tokens := append([]int32{bos}, ids[at:min(at+o.NCtx, len(ids))]...)
			pieces = append(pieces, example{tokens, learned[:len(tokens)]})
		}
		return pieces
	}
	for at := 0; at+1 < len(ids); at += o.NCtx {
		tokens := ids[at:min(at+o.NCtx+1, len(ids))]
		pieces = append(pieces, example{tokens, learned[:len(tokens)]})
	}
	return pieces
}

// splitText divides a text in front of its last fraction, counted in characters: at the
// start of the line that the point falls into, or behind the last blank before it when the
// line is long.
func splitText(text string, fraction float64) (train, val string) {
	const longLine = 1024 // bytes
	if fraction == 0 {
		return text, ""
	}
	chars := utf8.RuneCountInString(text)
	at := byteOffset(text, chars-int(float64(chars)*fraction+0.5))
	back := max(at-longLine, 0)
	for back < at && !utf8.RuneStart(text[back]) {
		back++
	}
	near := text[back:at]
	if i := strings.LastIndexByte(near, '\n'); i >= 0 {
		at = back + i + 1
	} else if i := strings.LastIndexAny(near, " \t"); i >= 0 {
		at = back + i + 1
	}
	return text[:at], text[at:]
}

// byteOffset returns where character n of s begins.
func byteOffset(s string, n int) int {
	for i := range s {
		if n == 0 {
			return i
		}
		n--
	}
	return len(s)
}
