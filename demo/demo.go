// Package demo is the whole job in a minute: a small base model and a small task, both embedded, a Dual LoRA trained over
// the one on the other, exported, and loaded in llama.cpp.
package demo

import (
	"cmp"
	"context"
	_ "embed"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"finetune/chat"
	"finetune/eval"
	"finetune/export"
	"finetune/internal/atomicfile"
	"finetune/model/native"
	"finetune/run"
	"finetune/trainer"
)

// base is the embedded model; base.md says what it is and how it was made.
//
//go:embed base.gguf
var base []byte

// Names of the files in the folder of a demo.
const (
	BaseFile    = "base.gguf"
	TaskFile    = "task.jsonl"
	RunDir      = "run"
	AdapterFile = "adapter.gguf"
)

// Options of a demo.
type Options struct {
	Dir     string // where its files go; a folder that exists already is left alone, and one with a number is taken
	Threads int    // 0 = one per physical core

	steps      int // of the training; 0 = what the demo shows
	exportRank int // of the exported adapter; 0 = as retention needs it
}

// Result is what a demo has shown.
type Result struct {
	Dir     string           `json:"dir"`
	Answers []Answer         `json:"answers"`
	InForm  Count            `json:"in_form"`
	Correct Count            `json:"correct"`
	Losses  []float64        `json:"losses"` // of each step
	Train   *trainer.Summary `json:"train"`
	Export  *export.Result   `json:"export"`
}

// Answer is what became of one held-out sentence, by greedy generation in llama.cpp.
type Answer struct {
	Sentence string `json:"sentence"`
	Before   string `json:"before"` // the base
	After    string `json:"after"`  // the base with the exported adapter
	Want     string `json:"want"`
}

// Count is how many of the answers, before and after.
type Count struct {
	Before int `json:"before"`
	After  int `json:"after"`
}

// Settings of the training: three quarters of a minute on two cores.
const (
	ctxLen = 256
	batch  = 4
	steps  = 300
	rank   = 32
	rate   = 4e-3
)

// answerTokens is more than the form takes.
const answerTokens = 40

// Run makes the folder, asks the base, trains, exports and asks again. report gets the events of the training and may be
// nil; say is told what is being done. Nothing outside of the folder is written, nothing is downloaded.
func Run(ctx context.Context, o Options, say func(string), report func(trainer.Event)) (*Result, error) {
	dir, err := newFolder(o.Dir)
	if err != nil {
		return nil, err
	}
	r := &Result{Dir: dir}
	for name, content := range map[string][]byte{BaseFile: base, TaskFile: task} {
		if err := write(r.Path(name), content); err != nil {
			return nil, err
		}
	}
	say("asking the base")
	before, err := ask(ctx, o, r.Path(BaseFile), "")
	if err != nil {
		return nil, err
	}
	if r.Train, err = trainer.Train(ctx, r.config(o), false, func(e trainer.Event) {
		if e.Kind == "step" {
			r.Losses = append(r.Losses, float64(e.Loss))
		}
		if report != nil {
			report(e)
		}
	}); err != nil {
		return nil, err
	}
	c := export.DefaultConfig()
	c.Run, c.Out, c.Threads, c.Rank = r.Path(RunDir), r.Path(AdapterFile), o.Threads, o.exportRank
	if r.Export, err = export.Run(ctx, c, say); err != nil {
		return nil, err
	}
	say("asking the base with the exported adapter")
	after, err := ask(ctx, o, r.Path(BaseFile), r.Path(AdapterFile))
	if err != nil {
		return nil, err
	}
	r.compare(before, after)
	return r, nil
}

// Path returns the path of a file of the demo.
func (r *Result) Path(name string) string { return filepath.Join(r.Dir, name) }

func (r *Result) config(o Options) run.Config {
	c := run.DefaultConfig()
	c.Model, c.Data, c.Out = r.Path(BaseFile), r.Path(TaskFile), r.Path(RunDir)
	c.Ctx, c.Batch, c.Steps, c.Rank, c.LR, c.Threads = ctxLen, batch, cmp.Or(o.steps, steps), rank, rate, o.Threads
	return c
}

// mostFolders is how many demos a folder may hold side by side.
const mostFolders = 1000

// newFolder creates dir, or dir-2, dir-3 and so on, whichever is not there yet.
func newFolder(dir string) (string, error) {
	name := dir
	for i := 2; i <= mostFolders; i++ {
		err := os.MkdirAll(filepath.Dir(name), 0o777)
		if err == nil {
			err = os.Mkdir(name, 0o777)
		}
		if !errors.Is(err, fs.ErrExist) {
			return name, err
		}
		name = fmt.Sprintf("%s-%d", dir, i)
	}
	return "", fmt.Errorf("demo: folder %q: %d of that name are there, want a new one", dir, mostFolders)
}

func write(path string, content []byte) error {
	return atomicfile.Write(path, func(w io.Writer) error {
		_, err := w.Write(content)
		return err
	})
}

// ask answers the held-out sentences, with an adapter if one is named.
func ask(ctx context.Context, o Options, model, adapter string) (answers []string, err error) {
	m, err := native.Open(model)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, m.Close()) }()
	e, err := eval.NewEvaluator(m, ctxLen, o.Threads)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, e.Close()) }()
	if adapter != "" {
		detach, err := e.Attach(adapter, 1)
		if err != nil {
			return nil, err
		}
		defer detach()
	}
	template, _ := m.ChatTemplate("")
	for _, x := range examples() {
		prompt, err := chat.Prompt(template, m.Vocab(), []chat.Message{{Role: "user", Content: x.sentence}})
		if err != nil {
			return nil, err
		}
		var text strings.Builder
		if err := e.Generate(ctx, prompt, eval.Sampling{Tokens: answerTokens, TopP: 1}, func(s string) { text.WriteString(s) }); err != nil {
			return nil, err
		}
		answers = append(answers, strings.TrimSpace(text.String()))
	}
	return answers, nil
}

// compare puts the answers side by side and counts them.
func (r *Result) compare(before, after []string) {
	count := func(n *int, yes bool) {
		if yes {
			*n++
		}
	}
	for i, x := range examples() {
		b, bOK := inForm(before[i])
		a, aOK := inForm(after[i])
		count(&r.InForm.Before, bOK)
		count(&r.InForm.After, aOK)
		count(&r.Correct.Before, bOK && b == x.want)
		count(&r.Correct.After, aOK && a == x.want)
		r.Answers = append(r.Answers, Answer{x.sentence, before[i], after[i], x.answer})
	}
}
