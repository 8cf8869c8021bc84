package data

import (
	"encoding/json"
	"errors"
	"strings"
	"testing"

	"finetune/chat"
	"finetune/internal/hint"
)

func TestRecordKinds(t *testing.T) {
	for _, c := range []struct{ json, want string }{
		{`{"text": "é"}`, `{"Kind":0,"Text":"é"}`},
		{`{"prompt": "a", "completion": " b"}`, `{"Kind":1,"Prompt":"a","Completion":" b"}`},
		{`{"messages": [{"role": "user", "content": "q"}, {"role": "assistant", "content": [{"type": "text", "text": "a"}, {"type": "text", "value": "b"}, "c"], "loss_weight": 0}]}`,
			`{"Kind":2,"Messages":[{"Role":"user","Content":"q"},{"Role":"assistant","Content":"a\nb\nc","NoLoss":true}]}`},
		{`{"conversations": [{"from": "human", "value": "q"}, {"from": "gpt", "value": "a", "train": true}]}`,
			`{"Kind":2,"Messages":[{"Role":"user","Content":"q"},{"Role":"assistant","Content":"a"}]}`},
		{`{"prompt": [{"role": "user", "content": "q"}], "completion": [{"role": "assistant", "content": "a"}]}`,
			`{"Kind":2,"Messages":[{"Role":"user","Content":"q","NoLoss":true},{"Role":"assistant","Content":"a"}]}`},
		{`{"instruction": "i", "input": "x", "output": "o", "text": "ignored"}`,
			`{"Kind":3,"Prompt":"### Instruction:\ni\n\n### Input:\nx\n\n### Response:\n","Completion":"o","Messages":[{"Role":"user","Content":"i\n\nx"},{"Role":"assistant","Content":"o"}]}`},
		{`{"question": "q", "answer": "a"}`,
			`{"Kind":3,"Prompt":"Question: q\nAnswer: ","Completion":"a","Messages":[{"Role":"user","Content":"q"},{"Role":"assistant","Content":"a"}]}`},
		{`{"text": "t", "question": "not alone"}`, `{"Kind":0,"Text":"t"}`},
	} {
		o, err := parseObject([]byte(c.json), wantLine)
		if err != nil {
			t.Fatal(err)
		}
		r, _ := newReader("", nil, chat.Source{})
		got, err := r.record(row{object: o}, "")
		if err != nil {
			t.Errorf("record(%s) = %v, want %s", c.json, err, c.want)
			continue
		}
		if s := compact(t, got); s != c.want {
			t.Errorf("record(%s) = %s, want %s", c.json, s, c.want)
		}
	}
}

// compact writes a record as JSON without its empty fields.
func compact(t *testing.T, r record) string {
	type message struct {
		Role, Content string
		NoLoss        bool `json:",omitempty"`
	}
	var m []message
	for _, x := range r.Messages {
		m = append(m, message{x.Role, x.Content, x.NoLoss})
	}
	b, err := json.Marshal(struct {
		Kind       recordKind
		Text       string    `json:",omitempty"`
		Prompt     string    `json:",omitempty"`
		Completion string    `json:",omitempty"`
		Messages   []message `json:",omitempty"`
	}{r.Kind, r.Text, r.Prompt, r.Completion, m})
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func TestBadFilesGetOneClearLine(t *testing.T) {
	good := `{"text": "fine"}` + "\n"
	for _, c := range []struct{ name, file, text, want string }{
		{"empty text", "a.txt", "", `data: "a.txt": file is empty`},
		{"empty lines", "a.jsonl", "\n \n", `data: "a.jsonl": no record in the file`},
		{"empty array", "a.json", " [] ", `data: "a.json": no record in the file`},
		{"text that is not UTF-8", "a.txt", "ab\xffc", `data: "a.txt" line 1: byte 2 of the line is 0xFF, not UTF-8 (in Latin-1 it is "ÿ"), want UTF-8 text`},
		{"line that is not UTF-8", "a.jsonl", good + "{\"text\": \"\xc3\"}", `data: "a.jsonl" line 2: byte 10 of the line is 0xC3, not UTF-8 (in Latin-1 it is "Ã"), want UTF-8 text`},
		{"not JSON", "a.jsonl", good + good + "xyz\n", `data: "a.jsonl" line 3: invalid character 'x' looking for beginning of value; want one JSON object a line`},
		{"cut line", "a.jsonl", `{"text": "ab`, `data: "a.jsonl" line 1: JSON ends too early; want one JSON object a line`},
		{"object over lines that does not end", "a.jsonl", "{\n\"text\": \"x\"", `data: "a.jsonl" line 2: JSON ends too early; want one JSON object a line`},
		{"single quotes", "a.jsonl", good + "{'text': 'x'}", `data: "a.jsonl" line 2: single quotes are no JSON, which has double quotes; want one JSON object a line`},
		{"commas", "a.jsonl", "{\"text\": \"x\"},\n" + good, `data: "a.jsonl" line 1: comma behind the object; want one JSON object a line`},
		{"trailing comma", "a.json", "[{\"text\": \"x\"},\n]", `data: "a.json" line 2: comma behind the last element; want a JSON array of objects`},
		{"NaN", "a.jsonl", good + `{"text": NaN}`, `data: "a.jsonl" line 2: NaN is no JSON value, which has null, true and false; want one JSON object a line`},
		{"None", "a.jsonl", good + `{"text": None}`, `data: "a.jsonl" line 2: None is no JSON value, which has null, true and false; want one JSON object a line`},
		{"half a character", "a.jsonl", good + `{"text": "\ud83d\ude00 \ud83d"}`, `data: "a.jsonl" line 2: \ud83d is half of a character, want it whole or left out`},
		{"a list for a text", "a.jsonl", `{"text": ["x"]}`, `data: "a.jsonl" line 1: "text" is an array, want a string`},
		{"an object for a text", "a.jsonl", `{"prompt": "p", "completion": {"x": 1}}`, `data: "a.jsonl" line 1: "completion" is an object, want a string`},
		{"two formats", "a.jsonl", good + `{"prompt": "x", "completion": "y"}`, `data: "a.jsonl" line 2: record is of the format completion, but that in "a.jsonl" line 1 of the format text, want one format`},
		{"a missing field", "a.jsonl", good + `{"txt": "x"}`, `data: "a.jsonl" line 2: record has the fields "txt", not those of the format text that "a.jsonl" line 1 has, "text"`},
		{"a ragged table", "a.csv", "prompt,completion\na,b\nc\n", `data: "a.csv" line 3: 1 cells, want 2 as in the first line`},
		{"a quote that is not closed", "a.csv", "text\n\"a\n", `data: "a.csv" line 2: column 4: extraneous or missing " in quoted-field`},
		{"a table of other names", "a.csv", "a,b\n1,2\n", `data: "a.csv" line 2: record has the fields "a", "b"; ` + wantedFields},
		{"no archive", "a.jsonl.gz", "x", `data: "a.jsonl.gz": cannot be unpacked: unexpected EOF`},
		{"no Parquet", "a.parquet", "x", `data: "a.parquet": no Parquet: 1 bytes, want at least 12`},
		{"history of another kind", "a.jsonl", `{"instruction": "i", "output": "o", "history": ["x"]}`, `data: "a.jsonl" line 1: "history" is "[\"x\"]", want pairs of texts [question, answer]`},
		{"a call that is no JSON", "a.jsonl", `{"conversations": [{"from": "function_call", "value": "f(1)"}]}`, `data: "a.jsonl" line 1: message 1: function call "f(1)", want JSON with "name" and "arguments"`},
		{"number in place of a record", "a.jsonl", good + "7", `data: "a.jsonl" line 2: record is a number, want a JSON object`},
		{"null in place of a record", "a.jsonl", "null", `data: "a.jsonl" line 1: record is null, want a JSON object`},
		{"unknown fields", "a.jsonl", `{"b": 1, "a": 2}`, `data: "a.jsonl" line 1: record has the fields "a", "b"; ` + wantedFields},
		{"no fields", "a.jsonl", `{}`, `data: "a.jsonl" line 1: record has the fields none; ` + wantedFields},
		{"messages that are a string", "a.jsonl", `{"messages": "hi"}`, `data: "a.jsonl" line 1: the messages are a string, want an array of objects with "role" and "content"`},
		{"no messages", "a.jsonl", `{"messages": []}`, `data: "a.jsonl" line 1: no messages, want at least one`},
		{"message without a role", "a.jsonl", `{"messages": [{"content": "x"}]}`, `data: "a.jsonl" line 1: message 1: has the fields "content", want "role" and "content"`},
		{"image", "a.jsonl", `{"messages": [{"role": "user", "content": [{"type": "image_url"}]}]}`, `data: "a.jsonl" line 1: message 1: part 1 is of type "image_url", only text can be trained on`},
		{"half a weight", "a.jsonl", `{"messages": [{"role": "assistant", "content": "x", "weight": 0.5}]}`, `data: "a.jsonl" line 1: message 1: "weight" is 0.5, want 0 or 1`},
		{"bad element of an array", "a.json", "[\n" + good + ",\n{\"text\": nope}\n]", `data: "a.json" line 4: invalid character 'o' in literal null (expecting 'u'); want a JSON array of objects`},
		{"unknown element of an array", "a.json", "[\n\n{\"foo\": 1}]", `data: "a.json" line 3: record has the fields "foo"; ` + wantedFields},
		{"array that does not end", "a.json", "[\n" + good, `data: "a.json" line 3: JSON ends too early; want a JSON array of objects`},
		{"data behind the array", "a.json", "[" + good + "] 1", `data: "a.json" line 2: data behind the array; want a JSON array of objects`},
		{"chat without a template", "a.jsonl", `{"messages": [{"role": "user", "content": "x"}]}`, `data: "a.jsonl" line 1: chat record, but the model has no chat template`},
		{"nothing to learn", "a.txt", "x", `data: "a.txt": no trained token: the text is too short`},
		{"workbook", "a.xlsx", "a,b", `data: "a.xlsx": .xlsx is not read, ` + wantedFiles},
	} {
		t.Run(c.name, func(t *testing.T) {
			path := write(t, c.file, c.text)
			set, err := loadFile(path, options{NCtx: 8, Tokenizer: byteTokenizer{}})
			if err == nil {
				t.Fatalf("Load(%q) gave %d windows, want the error %s", c.text, set.Train.Len(), c.want)
			}
			if got := strings.ReplaceAll(err.Error(), path, c.file); got != c.want {
				t.Errorf("Load(%q)\n got %s\nwant %s", c.text, got, c.want)
			}
		})
	}
}

func TestErrorsAreToldApart(t *testing.T) {
	load := func(name, text string) error {
		_, err := loadFile(write(t, name, text), options{NCtx: 8, Tokenizer: byteTokenizer{addBOS: true}})
		return err
	}
	ofChat := load("a.jsonl", `{"messages": [{"role": "user", "content": "x"}]}`)
	for _, c := range []struct {
		name      string
		err, want error
	}{
		{"empty", load("a.txt", ""), ErrEmpty},
		{"no template", ofChat, chat.ErrNoTemplate},
		{"only a prompt fits", load("b.jsonl", `{"prompt": "longer than the context", "completion": "x"}`), ErrNoTrained},
	} {
		if !errors.Is(c.err, c.want) {
			t.Errorf("%s: got %v, want %v", c.name, c.err, c.want)
		}
	}
	if _, err := loadFile("nowhere.txt", options{NCtx: 8, Tokenizer: byteTokenizer{}}); !strings.Contains(err.Error(), "nowhere.txt") {
		t.Errorf("missing file: got %v, want the file system's error with the path", err)
	}
	if len(hint.Of(ofChat)) == 0 {
		t.Error("a chat without a template: no hint")
	}
}

func TestLongLinesAreRefused(t *testing.T) {
	path := write(t, "a.jsonl", `{"text": "`+strings.Repeat("x", maxRecord)+`"}`)
	_, err := loadFile(path, options{NCtx: 8, Tokenizer: byteTokenizer{}})
	if err == nil || !strings.Contains(err.Error(), "line 1: more than 16 MiB without a line end") {
		t.Errorf("Load of a line over the limit = %v, want an error that says so", err)
	}
}

func TestByteOrderMarkAndLineEnds(t *testing.T) {
	for _, text := range []string{"\ufeff{\"text\": \"a\"}\r\n\r\n{\"text\": \"b\"}", "\ufeff[{\"text\": \"a\"},\r\n {\"text\": \"b\"}]"} {
		var got []string
		for text, err := range Texts(t.Context(), write(t, "a.jsonl", text)) {
			if err != nil {
				t.Fatal(err)
			}
			got = append(got, text)
		}
		if strings.Join(got, "") != "ab" {
			t.Errorf("Texts(%q) = %q, want a and b", text, got)
		}
	}
}

// FuzzRecords: no bytes panic, and what parses encodes or fails with an error of one line.
func FuzzRecords(f *testing.F) {
	for _, seed := range []string{
		`{"text": "a"}`, `{"prompt": "a", "completion": "b"}`, `{"messages": [{"role": "user", "content": "x"}, {"role": "assistant", "content": [{"type": "text", "text": "é"}], "weight": 0}], "tools": [{}]}`,
		`[{"question": "q", "answer": "a"}, {"instruction": "a", "input": null, "output": "b"}]`,
		`{"conversations": [{"from": "gpt", "value": "x"}]}`, "null\n{}\n7", "[[[[", "\ufeff[]", `{"messages": [null]}`, `{"prompt": [], "completion": 1}`,
		`{"messages": [{"role": "assistant", "content": null, "tool_calls": [{"function": {"name": "f", "arguments": {"x": 1e999}}}]}]}`,
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		path := write(t, "a.jsonl", string(b))
		for _, tok := range []byteTokenizer{{addBOS: true}, {space: true}} {
			set, err := loadFile(path, options{NCtx: 5, Tokenizer: tok, Template: chat.Source{Default: chatML}, ValFraction: 0.3})
			if err != nil {
				if !strings.HasPrefix(err.Error(), "data: ") || strings.Contains(err.Error(), "\n") {
					t.Fatalf("error %q, want one line that begins with data:", err)
				}
				continue
			}
			checkPacking(t, set.Train)
			checkPacking(t, set.Val)
		}
	})
}
