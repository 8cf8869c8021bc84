// Recipes writes the data of two recipes of docs/recipes.md, and counts what a run that was trained on them answers.
//
//	go run ./scripts/recipes facts DIR    # train.jsonl, val.jsonl
//	go run ./scripts/recipes calls DIR    # and template.jinja
//	go run ./scripts/recipes count RUN    # of a run with --samples
package main

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"

	"finetune/trainer"
)

func main() {
	if err := recipe(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "recipes:", err)
		os.Exit(1)
	}
}

func recipe(args []string) error {
	if len(args) != 2 {
		return errors.New("want facts DIR, calls DIR or count RUN")
	}
	switch args[0] {
	case "facts":
		train, val := facts()
		return write(args[1], map[string][]record{"train.jsonl": train, "val.jsonl": val})
	case "calls":
		train, val := calls()
		if err := write(args[1], map[string][]record{"train.jsonl": train, "val.jsonl": val}); err != nil {
			return err
		}
		return os.WriteFile(filepath.Join(args[1], "template.jinja"), []byte(template), 0o666)
	case "count":
		return count(os.Stdout, args[1])
	}
	return fmt.Errorf("%q: want facts, calls or count", args[0])
}

// record is a conversation in OpenAI's form.
type record struct {
	Messages []message `json:"messages"`
	Tools    []tool    `json:"tools,omitempty"`
}

type message struct {
	Role      string `json:"role"`
	Content   string `json:"content"`
	ToolCalls []call `json:"tool_calls,omitempty"`
}

func asked(question, answer string) record {
	return record{Messages: []message{{Role: "user", Content: question}, {Role: "assistant", Content: answer}}}
}

// plain are questions that have nothing to do with a recipe, of the demo's, so that other answers stay as they were.
func plain() (all []record, err error) {
	f, err := os.Open("demo/chats.jsonl")
	if err != nil {
		return nil, err
	}
	defer f.Close()
	lines := bufio.NewScanner(f)
	for lines.Scan() {
		var r record
		if err := json.Unmarshal(lines.Bytes(), &r); err != nil {
			return nil, err
		}
		all = append(all, r)
	}
	return all, lines.Err()
}

// write writes the files into dir, records in an order that follows from nothing but their number, the plain ones among those
// that are trained.
func write(dir string, files map[string][]record) error {
	others, err := plain()
	if err != nil {
		return err
	}
	if err := os.MkdirAll(dir, 0o777); err != nil {
		return err
	}
	for name, records := range files {
		if name == "train.jsonl" {
			for _, r := range others {
				r.Tools = records[0].Tools
				records = append(records, r)
			}
		}
		random := rand.New(rand.NewPCG(1, 1))
		random.Shuffle(len(records), func(i, j int) { records[i], records[j] = records[j], records[i] })
		var b strings.Builder
		for _, r := range records {
			line, err := json.Marshal(r)
			if err != nil {
				return err
			}
			b.Write(append(line, '\n'))
		}
		if err := os.WriteFile(filepath.Join(dir, name), []byte(b.String()), 0o666); err != nil {
			return err
		}
	}
	return nil
}

// count prints how many of a run's samples are what is wanted, word for word, by the base and at each validation.
func count(w io.Writer, dir string) error {
	f, err := os.Open(filepath.Join(dir, "log.jsonl"))
	if err != nil {
		return err
	}
	defer f.Close()
	lines := bufio.NewScanner(f)
	lines.Buffer(nil, 16<<20)
	for lines.Scan() {
		var e trainer.Event
		if err := json.Unmarshal(lines.Bytes(), &e); err != nil {
			return err
		}
		if e.Kind != "samples" {
			continue
		}
		right := 0
		for _, s := range e.Samples {
			if strings.TrimSpace(s.Text) == strings.TrimSpace(s.Wanted) {
				right++
			}
		}
		fmt.Fprintf(w, "step %d: %d of %d\n", e.Step, right, len(e.Samples))
	}
	return lines.Err()
}
