package data

import (
	"encoding/json"
	"slices"
	"strconv"
	"strings"
)

// Question is a record with choices, one of which is right.
type Question struct {
	Line    int // where it begins in the file, from 1
	Choices []string
	Gold    int      // index of the right choice
	Answers []Answer // one a choice, see [LoadQuestions]

	Instruction bool // an instruction, which training writes by the model's chat template if it has one

	prompt  string // what stands in front of a choice, raw
	message string // what stands in its place where a chat template writes the question: the user's message
	lead    string // what every answer begins with, behind either
}

const wantedQuestion = `want "question", "query" or "prompt" with "choices" and "answer", "goal", "sol1", "sol2" and "label", ` +
	`or "instruction", "output" and "answer"`

// parseQuestion reads one JSON object.
func parseQuestion(o object, letters bool) (Question, error) {
	switch {
	case o.has("choices"):
		return listedQuestion(o, letters)
	case o.has("goal", "sol1", "sol2"):
		return goalQuestion(o, letters)
	case o.has("instruction", "output", "answer"):
		return adaptersQuestion(o)
	}
	return Question{}, badf("record has the fields %s; %s", fieldNames(o), wantedQuestion)
}

// listedQuestion reads {question, query or prompt; choices; answer}: choices is a list of texts, or as in ARC
// {text: […], label: […]}.
func listedQuestion(o object, letters bool) (Question, error) {
	choices, labels, err := o.choices()
	if err != nil {
		return Question{}, err
	}
	for _, name := range []string{"question", "query", "prompt"} {
		if !o.has(name) {
			continue
		}
		text, err := o.text(name)
		if err != nil {
			return Question{}, err
		}
		if name == "question" && !letters {
			text = askedFor(text)
		}
		return choiceQuestion(o, text, choices, labels, letters)
	}
	return Question{}, badf("record has the fields %s; %s", fieldNames(o), wantedQuestion)
}

// askedFor is a question as lm-evaluation-harness asks those of ARC and PIQA.
func askedFor(question string) string { return "Question: " + question + "\nAnswer:" }

// goalQuestion reads PIQA's {goal, sol1, sol2, label}.
func goalQuestion(o object, letters bool) (Question, error) {
	s, err := o.texts("goal", "sol1", "sol2")
	if err != nil {
		return Question{}, err
	}
	if !letters {
		s[0] = askedFor(s[0])
	}
	return choiceQuestion(o, s[0], s[1:], nil, letters)
}

// choiceQuestion is a question whose choices stand apart from its text. With letters they are listed below the text, as
// for MMLU, and the letters are what is chosen from.
func choiceQuestion(o object, text string, choices, labels []string, letters bool) (Question, error) {
	if err := checkChoices(choices); err != nil {
		return Question{}, err
	}
	gold, err := o.gold(choices, labels)
	if err != nil {
		return Question{}, err
	}
	if letters {
		if len(choices) > len(alphabet) {
			return Question{}, unsupportedf("%d choices, and %d letters", len(choices), len(alphabet))
		}
		names := strings.Split(alphabet[:len(choices)], "")
		for i, c := range choices {
			text += "\n" + names[i] + ". " + c
		}
		text, choices = text+"\nAnswer:", names
	}
	return Question{Choices: choices, Gold: gold, prompt: text, message: text}, nil
}

const alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"

// adaptersQuestion reads a record of LLM-Adapters, {instruction, input, output, answer}. The instruction ends with
//
//	Answer format: answer1/answer2/answer3/answer4
//
// which are the choices; the prompt is written as for training ([KindInstruction]) and ends with what the output says in
// front of the answer, "the correct answer is".
func adaptersQuestion(o object) (Question, error) {
	s, err := o.texts("instruction", "output", "answer")
	if err != nil {
		return Question{}, err
	}
	_, format, found := strings.Cut(s[0], "Answer format:")
	choices := strings.Split(strings.TrimSpace(format), "/")
	lead, ends := strings.CutSuffix(strings.TrimSpace(s[1]), s[2])
	switch {
	case !found:
		return Question{}, badf(`"instruction" names no choices, want "Answer format: …/…" at its end`)
	case !ends:
		return Question{}, badf(`"output" does not end with "answer", which is %.40q`, s[2])
	}
	if err := checkChoices(choices); err != nil {
		return Question{}, err
	}
	gold := slices.Index(choices, s[2])
	if gold < 0 {
		return Question{}, badf(`"answer" is %.40q, want one of %q`, s[2], choices)
	}
	r, err := questionRecord(o, "instruction", "output")
	if err != nil {
		return Question{}, err
	}
	return Question{Choices: choices, Gold: gold, Instruction: true,
		prompt: r.Prompt, message: r.Messages[0].Content, lead: strings.TrimSpace(lead)}, nil
}

// choices returns the texts to choose from, and their labels if they have any.
func (o object) choices() (choices, labels []string, err error) {
	raw := o["choices"]
	switch jsonKind(raw) {
	case "an array":
		choices, err = texts("choice", raw)
	case "an object":
		var named object
		json.Unmarshal(raw, &named) // raw is a value of a document that parsed
		if !named.has("text", "label") {
			return nil, nil, badf(`"choices" has the fields %s, want "text" and "label"`, fieldNames(named))
		}
		if choices, err = texts("choice", named["text"]); err != nil {
			return nil, nil, err
		}
		if labels, err = texts("label", named["label"]); err == nil && len(labels) != len(choices) {
			err = badf("%d labels for %d choices", len(labels), len(choices))
		}
	default:
		err = badf(`"choices" is %s, want a list of texts`, jsonKind(raw))
	}
	if err != nil {
		return nil, nil, err
	}
	return choices, labels, nil
}

// texts reads a list of strings, each of which is called by name in errors.
func texts(name string, raw json.RawMessage) ([]string, error) {
	var list []json.RawMessage
	if err := json.Unmarshal(raw, &list); err != nil {
		return nil, badf("the %ss are %s, want a list of texts", name, jsonKind(raw))
	}
	out := make([]string, len(list))
	for i, raw := range list {
		if jsonKind(raw) != "a string" {
			return nil, badf("%s %d is %s, want a string", name, i+1, jsonKind(raw))
		}
		json.Unmarshal(raw, &out[i])
	}
	return out, nil
}

func checkChoices(choices []string) error {
	switch n := len(choices); n {
	case 0:
		return badf("no choices, want at least 2")
	case 1:
		return badf("1 choice, want at least 2")
	}
	for i, c := range choices {
		if strings.TrimSpace(c) == "" {
			return badf("choice %d is empty", i+1)
		}
	}
	return nil
}

// goldFields are what the right choice is named under.
var goldFields = []string{"answer", "gold", "label", "answerKey"}

// gold finds the right choice: by its label, its text, its letter or its index from 0, the first of these that fits.
func (o object) gold(choices, labels []string) (int, error) {
	at := slices.IndexFunc(goldFields, func(name string) bool { return o.has(name) })
	if at < 0 {
		return 0, badf("record has the fields %s, want the right choice under %q", fieldNames(o), goldFields)
	}
	name := goldFields[at]
	raw, text := o[name], ""
	switch kind := jsonKind(raw); kind {
	case "a number":
		text = string(raw)
	case "a string":
		json.Unmarshal(raw, &text)
		if i := named(strings.TrimSpace(text), choices, labels); i >= 0 {
			return i, nil
		}
	default:
		return 0, badf("%q is %s, want an index, a letter or the text of a choice", name, kind)
	}
	i, err := strconv.Atoi(strings.TrimSpace(text))
	switch {
	case err != nil:
		return 0, badf("%q is %.40q, which is none of the %d choices", name, text, len(choices))
	case i < 0 || i >= len(choices):
		return 0, badf("%q is %d, want 0 to %d for %d choices", name, i, len(choices)-1, len(choices))
	}
	return i, nil
}

// named finds a choice by its label, its text or its letter; -1 if there is none.
func named(text string, choices, labels []string) int {
	for _, list := range [][]string{labels, choices} {
		if i := slices.Index(list, text); i >= 0 {
			return i
		}
	}
	if i := strings.Index(alphabet, strings.ToUpper(text)); len(text) == 1 && i < len(choices) {
		return i
	}
	return -1
}
