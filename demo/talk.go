package demo

import (
	"regexp"
	"strings"
)

// Talk is what became of a question that has nothing to do with the task: a chat model should answer it as before.
type Talk struct {
	Question string `json:"question"`
	Before   string `json:"before"` // the base
	After    string `json:"after"`  // the base with the exported adapter
	Kept     bool   `json:"kept"`   // After is no JSON, and says what Before said
}

// question has nothing to do with the task.
type question struct {
	text string
	word string // what a right answer says
}

// questions are asked of chat models. None of them, nor of their words, is in the chats that are learned; SmolLM2-135M-Instruct
// knows the answers, as it does not of every capital.
var questions = []question{
	{"Who wrote Romeo and Juliet?", "Shakespeare"},
	{"Which planet is known as the Red Planet?", "Mars"},
	{"What is the first month of the year?", "January"},
	{"What is the opposite of hot?", "cold"},
	{"Write one sentence about the sea.", "sea"},
}

// kept reports whether the manners of a chat are still there: the answer is no JSON, and has the word if it had it before.
func (q question) kept(before, after string) bool {
	if after == "" || strings.ContainsAny(after[:1], "{[") {
		return false
	}
	return !hasWord(before, q.word) || hasWord(after, q.word)
}

// hasWord looks for a word in capital or small letters.
func hasWord(text, word string) bool {
	return regexp.MustCompile(`(?i)\b` + regexp.QuoteMeta(word) + `\b`).MatchString(text)
}
