package data

import (
	"errors"
	"fmt"
	"io/fs"
	"strings"
	"testing"

	"finetune/chat"
	"finetune/internal/hint"
	"finetune/internal/need"
)

// described writes a question as its choices behind the prompt, each in «», and the right one with a star.
func described(q Question, tok byteTokenizer) string {
	var parts []string
	for i, a := range q.Answers {
		text := ""
		for k, id := range a.Tokens {
			if k == a.From {
				text += "«"
			}
			text += tok.Piece(id, true)
		}
		star := ""
		if i == q.Gold {
			star = "*"
		}
		parts = append(parts, text+"»"+star)
	}
	return strings.Join(parts, " | ")
}

func TestQuestionsAreEncodedAsTheHarnessDoes(t *testing.T) {
	adapters := `{"instruction": "Is it so?\n\nAnswer format: true/false", "input": "", "output": "the correct answer is false", "answer": "false"}`
	for _, c := range []struct {
		name, json string
		o          QuestionOptions
		want       string
	}{
		{"question", `{"question": "q?", "choices": ["a", "b c"], "answer": 1}`, QuestionOptions{}, "Question: q?\nAnswer:« a» | Question: q?\nAnswer:« b c»*"},
		{"query", `{"query": "q?", "choices": ["a", "b"], "gold": 0}`, QuestionOptions{}, "q?« a»* | q?« b»"},
		{"prompt with a blank at its end", `{"prompt": "q \n", "choices": ["a", "b"], "label": "B"}`, QuestionOptions{}, "q« \na» | q« \nb»*"},
		{"choices with a blank", `{"prompt": "q", "choices": [" a", "\nb"], "label": "b"}`, QuestionOptions{}, "q« a» | q«\nb»*"},
		{"labels and texts", `{"query": "q", "choices": {"text": ["a", "b"], "label": ["1", "2"]}, "answerKey": "1"}`, QuestionOptions{}, "q« a»* | q« b»"},
		{"text before letter", `{"query": "q", "choices": ["B", "A"], "answer": "A"}`, QuestionOptions{}, "q« B» | q« A»*"},
		{"index in a string", `{"query": "q", "choices": ["a", "b"], "answer": "1"}`, QuestionOptions{}, "q« a» | q« b»*"},
		{"piqa", `{"goal": "g", "sol1": "x", "sol2": "y", "label": 1}`, QuestionOptions{}, "Question: g\nAnswer:« x» | Question: g\nAnswer:« y»*"},
		{"letters", `{"question": "q?", "choices": ["a", "b"], "answer": "b"}`, QuestionOptions{Letters: true}, "q?\nA. a\nB. b\nAnswer:« A» | q?\nA. a\nB. b\nAnswer:« B»*"},
		{"piqa by letters", `{"goal": "g", "sol1": "x", "sol2": "y", "label": 0}`, QuestionOptions{Letters: true}, "g\nA. x\nB. y\nAnswer:« A»* | g\nA. x\nB. y\nAnswer:« B»"},
		{"LLM-Adapters", adapters, QuestionOptions{Letters: true},
			"### Instruction:\nIs it so?\n\nAnswer format: true/false\n\n### Response:\nthe correct answer is« true» | " +
				"### Instruction:\nIs it so?\n\nAnswer format: true/false\n\n### Response:\nthe correct answer is« false»*"},
		{"BOS", `{"query": "q", "choices": ["a", "b"], "gold": 0}`, QuestionOptions{Tokenizer: byteTokenizer{addBOS: true}}, "<s>q« a»* | <s>q« b»"},
		{"template", `{"question": "q", "choices": ["a", "b"], "gold": 0}`, QuestionOptions{Template: chat.Source{Default: chatML}},
			"<|im_start|>user\nQuestion: q\nAnswer:<|im_end|>\n<|im_start|>assistant«\na»* | <|im_start|>user\nQuestion: q\nAnswer:<|im_end|>\n<|im_start|>assistant«\nb»"},
		{"LLM-Adapters by template", adapters, QuestionOptions{Template: chat.Source{Default: chatML}},
			"<|im_start|>user\nIs it so?\n\nAnswer format: true/false<|im_end|>\n<|im_start|>assistant\nthe correct answer is« true» | " +
				"<|im_start|>user\nIs it so?\n\nAnswer format: true/false<|im_end|>\n<|im_start|>assistant\nthe correct answer is« false»*"},
		{"more than are needed", `{"question": "q", "choices": ["a", "b"], "answer": 0, "goal": "g", "subject": "s"}`, QuestionOptions{}, "Question: q\nAnswer:« a»* | Question: q\nAnswer:« b»"},
	} {
		if c.o.Tokenizer == nil {
			c.o.Tokenizer = byteTokenizer{}
		}
		all, err := LoadQuestions(write(t, "q.jsonl", c.json+"\n"), c.o)
		if err != nil || len(all) != 1 {
			t.Errorf("%s: %d questions, %v", c.name, len(all), err)
			continue
		}
		if got := described(all[0], byteTokenizer{}); got != c.want {
			t.Errorf("%s: %q, want %q", c.name, got, c.want)
		}
	}
}

func TestBadQuestions(t *testing.T) {
	for _, c := range []struct{ json, want string }{
		{`{"question": "q", "choices": [], "answer": 0}`, "no choices, want at least 2"},
		{`{"question": "q", "choices": ["a"], "answer": 0}`, "1 choice, want at least 2"},
		{`{"question": "q", "choices": ["a", " "], "answer": 0}`, "choice 2 is empty"},
		{`{"question": "q", "choices": ["a", 2], "answer": 0}`, "choice 2 is a number, want a string"},
		{`{"question": "q", "choices": "a/b", "answer": 0}`, `"choices" is a string, want a list of texts`},
		{`{"question": "q", "choices": {"text": ["a", "b"]}, "answer": 0}`, `"choices" has the fields "text", want "text" and "label"`},
		{`{"question": "q", "choices": {"text": "a", "label": ["A"]}, "answer": 0}`, `the choices are a string, want a list of texts`},
		{`{"question": "q", "choices": {"text": ["a", "b"], "label": ["A"]}, "answer": 0}`, "1 labels for 2 choices"},
		{`{"question": "q", "choices": ["a", "b"], "answer": 2}`, `"answer" is 2, want 0 to 1 for 2 choices`},
		{`{"question": "q", "choices": ["a", "b"], "answer": -1}`, `"answer" is -1, want 0 to 1 for 2 choices`},
		{`{"question": "q", "choices": ["a", "b"], "gold": 0.5}`, `"gold" is "0.5", which is none of the 2 choices`},
		{`{"question": "q", "choices": ["a", "b"], "label": "C"}`, `"label" is "C", which is none of the 2 choices`},
		{`{"question": "q", "choices": ["a", "b"], "answer": [0]}`, `"answer" is an array, want an index, a letter or the text of a choice`},
		{`{"question": "q", "choices": ["a", "b"]}`, `record has the fields "choices", "question", want the right choice under ["answer" "gold" "label" "answerKey"]`},
		{`{"text": "q", "choices": ["a", "b"], "answer": 0}`, `record has the fields "answer", "choices", "text"; want "question", "query" or "prompt"`},
		{`{"question": "", "query": "q", "choices": ["a", "b"], "answer": 3}`, `"answer" is 3`},
		{`{"query": " ", "choices": ["a", "b"], "answer": 0}`, "the question is empty"},
		{`{"question": [7], "choices": ["a", "b"], "answer": 0}`, `"question" is an array, want a string`},
		{`{"goal": "g", "sol1": "a", "sol2": "", "label": 0}`, "choice 2 is empty"},
		{`{"goal": "g", "sol1": "a", "sol2": "b", "label": 2}`, `"label" is 2, want 0 to 1`},
		{`{"instruction": "q", "output": "is a", "answer": "a"}`, `"instruction" names no choices, want "Answer format: …/…" at its end`},
		{`{"instruction": "q Answer format: a", "output": "is a", "answer": "a"}`, "1 choice, want at least 2"},
		{`{"instruction": "q Answer format: a/b", "output": "is c", "answer": "c"}`, `"answer" is "c", want one of ["a" "b"]`},
		{`{"instruction": "q Answer format: a/b", "output": "is b", "answer": "a"}`, `"output" does not end with "answer", which is "a"`},
		{`{"prompt": "p", "completion": "c"}`, `record has the fields "completion", "prompt"; want "question", "query" or "prompt"`},
		{`[1]`, "record is a number, want a JSON object"},
		{`null`, "record is null, want a JSON object"},
		{`{"query": "0123456789", "choices": ["a", "bcd"], "answer": 0}`, "choice 2 makes 13 tokens with its prompt, want at most 12"},
	} {
		path := write(t, "q.jsonl", "\n"+c.json+"\n")
		_, err := LoadQuestions(path, QuestionOptions{Tokenizer: byteTokenizer{}, NCtx: 12})
		if err == nil || !strings.HasPrefix(err.Error(), fmt.Sprintf("data: %q line 2: %s", path, c.want)) || strings.Contains(err.Error(), "\n") {
			t.Errorf("%s: %v, want %q", c.json, err, c.want)
		}
	}
	o := QuestionOptions{Tokenizer: byteTokenizer{}}
	if _, err := LoadQuestions(write(t, "q.jsonl", ""), o); !errors.Is(err, ErrEmpty) {
		t.Errorf("an empty file: %v", err)
	}
	if _, err := LoadQuestions(write(t, "q.txt", "q?"), o); err == nil || len(hint.Of(err)) == 0 {
		t.Errorf("a text: %v, want a refusal with a hint", err)
	}
	if _, err := LoadQuestions("none.jsonl", o); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("no file: %v", err)
	}
	o.Template = chat.Source{Default: "{% if %}"}
	if _, err := LoadQuestions("none.jsonl", o); err == nil {
		t.Error("a template that is none: no error")
	}
	o.Template = chat.Source{Default: `{{ raise_exception("no users here") }}`}
	if _, err := LoadQuestions(write(t, "q.jsonl", `{"query": "q", "choices": ["a", "b"], "answer": 0}`), o); !errors.Is(err, chat.ErrRefused) {
		t.Errorf("a template that refuses: %v", err)
	}
}

// Every question of the three real sets.
func TestRealQuestions(t *testing.T) {
	for name, want := range map[string]string{"ARC-Easy": "2376, 3 to 5", "boolq": "3270, 2 to 2", "openbookqa": "500, 4 to 4"} {
		t.Run(name, func(t *testing.T) {
			all, err := LoadQuestions(need.Shared(t, "tasks/"+name+"-test.json"), QuestionOptions{Tokenizer: byteTokenizer{}})
			if err != nil {
				t.Fatal(err)
			}
			least, most := 99, 0
			for _, q := range all {
				least, most = min(least, len(q.Choices)), max(most, len(q.Choices))
			}
			if got := fmt.Sprintf("%d, %d to %d", len(all), least, most); got != want {
				t.Errorf("questions and choices %s, want %s", got, want)
			}
		})
	}
}
