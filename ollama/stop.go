package ollama

import (
	"slices"
	"strconv"
	"strings"

	"finetune/chat"
)

// Vocabulary is what stop texts are found by; llama.cpp's of the base is one.
type Vocabulary interface {
	chat.Tokenizer
	NTokens() int
	IsControl(id int32) bool
}

// stops returns the texts that end an answer: every token at which llama.cpp ends a generation, and the control tokens
// with which the template ends an answer or begins the next message. A template without such tokens has its next
// message begun by words, and the first line of these it is.
func stops(v Vocabulary, between string) ([]string, error) {
	var all []string
	add := func(text string) {
		if text != "" && !slices.Contains(all, text) && sayable(text) {
			all = append(all, text)
		}
	}
	for id := range int32(v.NTokens()) {
		if v.IsEOG(id) {
			add(v.Piece(id, true))
		}
	}
	ids, err := v.Tokenize(between, false, true)
	if err != nil {
		return nil, err
	}
	marked := false
	for _, id := range ids {
		if v.IsEOG(id) || v.IsControl(id) && id != v.BOS() {
			add(v.Piece(id, true))
			marked = true
		}
	}
	if !marked {
		line, _, _ := strings.Cut(strings.TrimSpace(between), "\n")
		add(strings.TrimSpace(line))
	}
	return all, nil
}

// sayable reports whether a Modelfile can hold the text on a line: Ollama's parser drops what is not printable.
func sayable(text string) bool {
	for _, r := range text {
		if !strconv.IsPrint(r) {
			return false
		}
	}
	return !strings.Contains(text, `"""`)
}
