package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
)

// A task is what a model learns: records or text, cut so that a run takes a minute or two.
type task struct {
	model   string // smollm2 or gemma3
	ctx     int
	batch   int
	steps   int
	targets string // "" is all-linear
	write   func(data, train, val string) error
	ext     string
}

type taskFiles struct{ train, val string }

// Held-out parts are small, since a loss is measured after every run; they are the same for every method.
const (
	valRecords  = 48
	valText     = 12_000 // bytes
	trainingMax = 2_000  // records
)

// tasks are the study's. A step is 512 tokens, so that 30 steps are 15,360.
var tasks = map[string]task{
	"biomedqa":    {model: "smollm2", write: fromFiles("instruct/biomedqa-train.jsonl", "instruct/biomedqa-validation.jsonl"), ext: ".jsonl"},
	"alpaca":      {model: "smollm2", write: fromRecords("instruct/alpaca_en_demo.json", instruction), ext: ".jsonl"},
	"gsm8k":       {model: "smollm2", write: fromRecords("instruct/gsm8k-train.jsonl", fields("question", "answer")), ext: ".jsonl"},
	"chat":        {model: "smollm2", write: fromRecords("instruct/v1_sft_demo.jsonl", asItIs), ext: ".jsonl"},
	"arc-easy":    {model: "smollm2", write: fromRecords("tasks/ARC-Easy-train.json", instruction), ext: ".jsonl"},
	"openbookqa":  {model: "smollm2", write: fromRecords("tasks/openbookqa-train.json", instruction), ext: ".jsonl"},
	"boolq":       {model: "smollm2", write: fromRecords("tasks/boolq-train.json", instruction), ext: ".jsonl"},
	"shakespeare": {model: "smollm2", write: fromText("text/tinyshakespeare.txt", ""), ext: ".txt"},
	"wikitext2":   {model: "smollm2", write: fromText("text/wikitext2-valid.txt", "text/wikitext2-test.txt"), ext: ".txt"},

	"gemma3-shakespeare": {model: "gemma3", write: fromText("text/tinyshakespeare.txt", ""), ext: ".txt"},
	"gemma3-alpaca":      {model: "gemma3", write: fromRecords("instruct/alpaca_en_demo.json", instruction), ext: ".jsonl"},

	// A fifth of the layers, for the rule of ρ.
	"biomedqa-6layers": {model: "smollm2", write: fromFiles("instruct/biomedqa-train.jsonl", "instruct/biomedqa-validation.jsonl"), ext: ".jsonl",
		targets: `blk\.2[4-9]\.(attn_(q|k|v|output)|ffn_(gate|up|down))\.weight`},
	// The first whole run of the notes.
	"biomedqa-8steps": {model: "smollm2", ctx: 256, steps: 8, write: fromFiles("instruct/biomedqa-train.jsonl", "instruct/biomedqa-validation.jsonl"), ext: ".jsonl"},
}

// shape returns what of a run's shape the task does not name.
func (t task) shape() task {
	t.ctx = or(t.ctx, 128)
	t.batch = or(t.batch, 4)
	t.steps = or(t.steps, 30)
	return t
}

func or(v, otherwise int) int {
	if v == 0 {
		return otherwise
	}
	return v
}

func (t task) prepare(data, out string) (taskFiles, error) {
	f := taskFiles{out + "-train" + t.ext, out + "-val" + t.ext}
	return f, t.write(data, f.train, f.val)
}

func fromFiles(train, val string) func(data, trainOut, valOut string) error {
	return func(data, trainOut, valOut string) error {
		if err := copyPart(filepath.Join(data, train), trainOut, -1); err != nil {
			return err
		}
		return copyPart(filepath.Join(data, val), valOut, -1)
	}
}

// fromText holds out the end of the text where there is no other for it.
func fromText(train, val string) func(data, trainOut, valOut string) error {
	return func(data, trainOut, valOut string) error {
		if val != "" {
			if err := copyPart(filepath.Join(data, train), trainOut, -1); err != nil {
				return err
			}
			return copyPart(filepath.Join(data, val), valOut, valText)
		}
		text, err := os.ReadFile(filepath.Join(data, train))
		if err != nil {
			return err
		}
		cut := len(text) - valText
		if err := os.WriteFile(trainOut, text[:cut], 0o644); err != nil {
			return err
		}
		return os.WriteFile(valOut, text[cut:], 0o644)
	}
}

// copyPart copies the first n bytes of a file, all with a negative n.
func copyPart(from, to string, n int) error {
	text, err := os.ReadFile(from)
	if err != nil {
		return err
	}
	if n >= 0 && n < len(text) {
		text = text[:n]
	}
	return os.WriteFile(to, text, 0o644)
}

// fromRecords holds out the last records.
func fromRecords(file string, convert func(map[string]any) map[string]any) func(data, trainOut, valOut string) error {
	return func(data, trainOut, valOut string) error {
		records, err := readRecords(filepath.Join(data, file))
		if err != nil {
			return err
		}
		for i, r := range records {
			records[i] = convert(r)
		}
		cut := len(records) - min(valRecords, len(records)/8)
		if err := writeRecords(trainOut, records[:min(cut, trainingMax)]); err != nil {
			return err
		}
		return writeRecords(valOut, records[cut:])
	}
}

func asItIs(r map[string]any) map[string]any { return r }

func fields(prompt, completion string) func(map[string]any) map[string]any {
	return func(r map[string]any) map[string]any {
		return map[string]any{"prompt": r[prompt], "completion": r[completion]}
	}
}

// instruction reads Alpaca's form.
func instruction(r map[string]any) map[string]any {
	prompt := r["instruction"].(string)
	if input, _ := r["input"].(string); input != "" {
		prompt += "\n\n" + input
	}
	return map[string]any{"prompt": prompt, "completion": r["output"]}
}

// readRecords reads a list of records, or a record a line.
func readRecords(path string) ([]map[string]any, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	var records []map[string]any
	if bytes.HasPrefix(bytes.TrimSpace(text), []byte("[")) {
		return records, json.Unmarshal(text, &records)
	}
	lines := bufio.NewScanner(bytes.NewReader(text))
	lines.Buffer(nil, len(text)+1)
	for lines.Scan() {
		var r map[string]any
		if err := json.Unmarshal(lines.Bytes(), &r); err != nil {
			return nil, fmt.Errorf("%s: %w", path, err)
		}
		records = append(records, r)
	}
	return records, lines.Err()
}

func writeRecords(path string, records []map[string]any) error {
	var out bytes.Buffer
	for _, r := range records {
		line, err := json.Marshal(r)
		if err != nil {
			return err
		}
		out.Write(append(line, '\n'))
	}
	return os.WriteFile(path, out.Bytes(), 0o644)
}
