// Package demo is the whole job in a few minutes: a Dual LoRA trained over a chat model, which learns to answer in one JSON form,
// exported, loaded in llama.cpp and asked what it has learned. Without a chat model it is a small base that is embedded, and a
// smaller task.
package demo

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"finetune/device"
	"finetune/export"
	"finetune/internal/atomicfile"
	"finetune/internal/hint"
	"finetune/model"
	"finetune/run"
	"finetune/trainer"
)

// Names of the files in the folder of a demo.
const (
	BaseFile    = "base.gguf" // where it is the embedded one
	TaskFile    = "task.jsonl"
	ChatsFile   = "chats.jsonl" // where a chat model is taught
	RunDir      = "run"
	AdapterFile = "adapter.gguf"
)

// Options of a demo.
type Options struct {
	Dir       string // where its files go; a folder that exists already is left alone, and one with a number is taken
	Model     string // GGUF of a chat model; empty = the embedded base
	Threads   int    // 0 = one per physical core
	Device    string // as device.Choose takes it; empty = the CPU
	GPULayers int    // of the base on the device, see device.Placement

	steps      int // of the training; 0 = what the demo shows
	exportRank int // of the exported adapter; 0 = as retention needs it
}

// Result is what a demo has shown.
type Result struct {
	Dir     string           `json:"dir"`
	Model   string           `json:"model"` // path of the base
	Data    []string         `json:"data"`  // paths of what was taught
	Answers []Answer         `json:"answers"`
	InForm  Count            `json:"in_form"`
	Correct Count            `json:"correct"`
	Talk    []Talk           `json:"talk,omitempty"` // with a chat model
	Kept    int              `json:"kept"`           // of Talk
	Losses  []float64        `json:"losses"`         // of each step
	Train   *trainer.Summary `json:"train"`
	Export  *export.Result   `json:"export"`
}

// Answer is what became of one held-out sentence, by greedy generation in llama.cpp.
type Answer struct {
	Sentence string `json:"sentence"`
	Before   string `json:"before"` // the base
	After    string `json:"after"`  // the base with the exported adapter
	Want     string `json:"want"`
	Right    bool   `json:"right"` // After is in the form, with the right words
}

// Count is how many of the answers, before and after.
type Count struct {
	Before int `json:"before"`
	After  int `json:"after"`
}

// Run makes the folder, asks the base, trains, exports and asks again. report gets the events of the training and may be
// nil; say is told what is being done. Nothing outside of the folder is written, nothing is downloaded.
func Run(ctx context.Context, o Options, say func(string), report func(trainer.Event)) (*Result, error) {
	o.Device = cmp.Or(o.Device, device.CPU)
	on, err := device.Choose(o.Device, o.GPULayers)
	if err != nil {
		return nil, err
	}
	r, l, err := o.begin()
	if err != nil {
		return nil, err
	}
	a := asker{model: r.Model, on: on, threads: o.Threads}
	say("asking the base")
	before, err := a.ask(ctx, l.prompts())
	if err != nil {
		return nil, err
	}
	if r.Train, err = trainer.Train(ctx, r.config(o, l), false, func(e trainer.Event) {
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
	c.Device, c.GPULayers = o.Device, o.GPULayers
	if r.Export, err = export.Run(ctx, c, say); err != nil {
		return nil, err
	}
	say("asking the base with the exported adapter")
	a.adapter = r.Path(AdapterFile)
	after, err := a.ask(ctx, l.prompts())
	if err != nil {
		return nil, err
	}
	r.compare(l, before, after)
	return r, nil
}

// begin makes the folder with the files of the lesson that suits the model.
func (o Options) begin() (*Result, lesson, error) {
	l := forTheEmbedded()
	if o.Model != "" {
		if err := checkChat(o.Model); err != nil {
			return nil, l, err
		}
		l = forChatModels()
	}
	dir, err := newFolder(o.Dir)
	if err != nil {
		return nil, l, err
	}
	r := &Result{Dir: dir, Model: o.Model}
	if o.Model == "" {
		r.Model = r.Path(BaseFile)
		if err := write(r.Model, base); err != nil {
			return nil, l, err
		}
	}
	for _, f := range l.files {
		if err := write(r.Path(f.name), f.content); err != nil {
			return nil, l, err
		}
		r.Data = append(r.Data, r.Path(f.name))
	}
	return r, l, nil
}

// checkChat refuses what is no chat model, before a file is written.
func checkChat(path string) error {
	b, err := model.Open(path)
	if err != nil {
		return err
	}
	defer b.Close()
	if t, _ := b.String("tokenizer.chat_template"); t == "" {
		return hint.With(fmt.Errorf("demo: model %q: has no chat template, want a chat model", path), "scripts/real-model smollm2 brings one")
	}
	return nil
}

// Path returns the path of a file of the demo.
func (r *Result) Path(name string) string { return filepath.Join(r.Dir, name) }

func (r *Result) config(o Options, l lesson) run.Config {
	c := run.DefaultConfig()
	c.Model, c.Data, c.Out = r.Model, strings.Join(r.Data, "\n"), r.Path(RunDir)
	c.Ctx, c.Steps, c.Rank, c.LR = l.ctx, cmp.Or(o.steps, l.steps), l.rank, l.rate
	c.Threads, c.Device, c.GPULayers = o.Threads, o.Device, o.GPULayers
	return c.Completed(nil)
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

// compare puts the answers side by side and counts them. Those to the held-out sentences come first.
func (r *Result) compare(l lesson, before, after []string) {
	for i, x := range l.heldOut {
		b, bOK := inForm(before[i])
		a, aOK := inForm(after[i])
		right := aOK && a == x.want
		count(&r.InForm.Before, bOK)
		count(&r.InForm.After, aOK)
		count(&r.Correct.Before, bOK && b == x.want)
		count(&r.Correct.After, right)
		r.Answers = append(r.Answers, Answer{x.sentence, before[i], after[i], x.answer, right})
	}
	for i, q := range l.questions {
		talk := Talk{q.text, before[len(l.heldOut)+i], after[len(l.heldOut)+i], false}
		talk.Kept = q.kept(talk.Before, talk.After)
		count(&r.Kept, talk.Kept)
		r.Talk = append(r.Talk, talk)
	}
}

func count(n *int, yes bool) {
	if yes {
		*n++
	}
}
