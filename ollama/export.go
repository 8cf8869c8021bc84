// Package ollama writes the Modelfile that makes of an export a model of Ollama: a merged model, chat template and stop texts,
// the latter two taken from the base.
//
// Ollama's TEMPLATE is a Go template, that of a GGUF is Jinja. The one is found from the other by rendering conversations
// and taking the texts apart, and is held against the base's own on further ones: a template that Ollama would render
// differently is not written.
//
// Ollama 0.34.1 and later refuse ADAPTER in a Modelfile, and before that its own engine took none, see [TakesAdapters]. So what
// was trained is merged into a model; Config.Beside keeps base and adapter apart, for older versions.
package ollama

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"finetune/chat"
	"finetune/imatrix"
	"finetune/internal/hint"
	"finetune/internal/output"
	"finetune/merge"
	"finetune/model"
	"finetune/run"

	"github.com/go-skynet/go-llama.cpp/llama"
)

// Config says what the Modelfile is for.
type Config struct {
	Name    string // of the model, see CheckName
	Base    string // the base model, a GGUF
	Adapter string // the GGUF LoRA; the Modelfile goes beside it, under its name with the ending .Modelfile
	Run     string // the run directory that the adapter comes from: as it was trained there it goes into the merged model
	Beside  bool   // name base and adapter in place of a merged model, which Ollama before 0.34.1 takes
	Force   bool   // replace a merged model that is there
}

// stem is what the names of the files beside the adapter begin with.
func (c Config) stem() string { return strings.TrimSuffix(c.Adapter, ".gguf") }

// merged is the path of the merged model.
func (c Config) merged() string { return c.stem() + "-merged.gguf" }

// modelfile is the path of the Modelfile.
func (c Config) modelfile() string { return c.stem() + ".Modelfile" }

// Result is what was written.
type Result struct {
	Name      string        `json:"name"`
	Modelfile string        `json:"modelfile"` // its path, which ollama create NAME -f wants
	From      string        `json:"from"`
	Adapter   string        `json:"adapter,omitempty"` // with Config.Beside
	Merged    *merge.Result `json:"merged,omitempty"`  // without
	Template  string        `json:"template,omitempty"`
	Stop      []string      `json:"stop"`
	Notes     []string      `json:"notes,omitempty"` // what could not be done as the base has it
}

// Check refuses what Write would, as far as it shows without the adapter.
func (c Config) Check() error {
	if err := CheckName(c.Name); err != nil {
		return err
	}
	base, err := model.Open(c.Base)
	if err != nil {
		return err
	}
	defer base.Close()
	if reason := whyMerge(base); c.Beside && reason != "" {
		return hint.With(fmt.Errorf("ollama: base %q: %s", c.Base, reason), "without --ollama-adapter what was trained is merged into a model")
	}
	for _, path := range c.named() {
		if !sayable(path) {
			return fmt.Errorf("ollama: path %q: a Modelfile cannot hold it, want printable characters", path)
		}
	}
	if err := (output.Target{Path: c.modelfile(), Force: true, Inputs: base.Paths()}).Check(); err != nil || c.Beside {
		return err
	}
	return output.Target{Path: c.merged(), Force: c.Force, Inputs: base.Paths()}.Check()
}

// named are the paths that the Modelfile will have in it.
func (c Config) named() []string {
	if c.Beside {
		return []string{c.Base, beside(c.Adapter)}
	}
	return []string{beside(c.merged())}
}

// Write writes the Modelfile, which replaces one that is there, and the merged model beside it, in the types of the base;
// progress, if not nil, is told after each of its tensors.
func Write(ctx context.Context, c Config, progress func(done, total int)) (*Result, error) {
	if err := c.Check(); err != nil {
		return nil, err
	}
	r := &Result{Name: c.Name, Modelfile: c.modelfile()}
	if err := r.read(c.Base, c.Run); err != nil {
		return nil, err
	}
	r.From = beside(c.merged())
	if c.Beside {
		if err := r.together(c); err != nil {
			return nil, err
		}
	}
	for _, path := range []string{r.From, r.Adapter} {
		if !sayable(path) {
			return nil, fmt.Errorf("ollama: path %q: a Modelfile cannot hold it, want printable characters", path)
		}
	}
	if !c.Beside {
		if err := r.merge(ctx, c, progress); err != nil {
			return nil, err
		}
	}
	m := Modelfile{From: r.From, Adapter: r.Adapter, Template: r.Template, Stop: r.Stop}
	return r, m.Write(r.Modelfile)
}

// together names base and adapter: the base by its full path, the adapter by one that starts at the Modelfile, with which it
// may be moved.
func (r *Result) together(c Config) (err error) {
	r.note("Ollama 0.34.1 and later refuse ADAPTER in a Modelfile: for these leave --ollama-adapter out")
	r.Adapter = beside(c.Adapter)
	r.From, err = filepath.Abs(c.Base)
	return err
}

func beside(path string) string { return "./" + filepath.Base(path) }

// whyMerge says why Ollama cannot load an adapter beside this base; empty if it can.
func whyMerge(base *model.Base) string {
	switch {
	case !TakesAdapters(base.Architecture()):
		return fmt.Sprintf("Ollama runs %s in its own engine, which takes no adapters", base.Architecture())
	case len(base.Paths()) > 1:
		return "Ollama takes no model in several files"
	}
	return ""
}

// leastKept is how much of a ΔW has to be left in its own direction, see [merge.Tensor], for the merge to need no word.
const leastKept = 0.5

// merge writes the merged model: with the factors as trained, not projected, and weighed by the importance matrix, if the
// run has them.
func (r *Result) merge(ctx context.Context, c Config, progress func(done, total int)) (err error) {
	m := merge.Config{Model: c.Base, Out: c.merged(), Force: c.Force, Adapters: []merge.Adapter{{Path: c.Adapter, Scale: 1}}}
	if c.Run != "" {
		m.Adapters[0].Path = filepath.Join(c.Run, run.AdapterFile)
		if path := filepath.Join(c.Run, imatrix.FileName); isFile(path) {
			m.IMatrix = path
		}
	}
	if r.Merged, err = merge.Merge(ctx, m, progress); err != nil {
		return err
	}
	drowned := 0
	for _, t := range r.Merged.Tensors {
		if t.Kept < leastKept {
			drowned++
		}
	}
	if drowned > 0 {
		r.note(fmt.Sprintf("in %d of %d merged tensors rounding takes more than half of what was learned: finetune merge --type q8_0 keeps it",
			drowned, len(r.Merged.Tensors)))
	}
	return nil
}

func isFile(path string) bool {
	info, err := os.Stat(path)
	return err == nil && info.Mode().IsRegular()
}

// read takes template and stop texts from the base; the template is another if the run was given one.
func (r *Result) read(base, dir string) (err error) {
	m, err := llama.LoadModel(base, llama.ModelParams{VocabOnly: true})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, m.Close()) }()
	between := ""
	source, args, err := templateOf(m, dir)
	if err != nil {
		return err
	}
	if source != "" {
		between = r.translate(source, args, m.Vocab())
	} else {
		r.Template = completion
		r.note("the base has no chat template: the model continues texts")
	}
	r.Stop, err = stops(m.Vocab(), between)
	return err
}

// templateOf returns the chat template that a run was given, with its arguments, or else the base's; "" if there is none.
func templateOf(m *llama.Model, dir string) (string, chat.Args, error) {
	source, _ := m.ChatTemplate("")
	if dir == "" {
		return source, nil, nil
	}
	saved, err := run.LoadSaved(dir)
	if err != nil {
		return "", nil, err
	}
	if saved.Template != "" {
		text, err := os.ReadFile(saved.Template)
		if err != nil {
			return "", nil, err
		}
		source = strings.TrimPrefix(string(text), "\ufeff")
	}
	args, err := chat.ParseArgs(run.Lines(saved.TemplateArg))
	return source, args, err
}

// translate sets the template, or notes why there is none. between is what the base's writes between an answer and the next
// question.
func (r *Result) translate(source string, args chat.Args, v Vocabulary) (between string) {
	t, err := chat.Parse(chat.Source{Default: source}, v, chat.Options{AsGiven: true, Args: args}) // without a date, which would stay that of today
	if err != nil {
		r.noTemplate(err)
		return ""
	}
	render := func(messages []chat.Message) (string, error) {
		text, err := t.Render(messages, nil, true)
		return chat.WithoutBOS(text, v), err
	}
	source, f, err := translate(render)
	if err != nil {
		r.noTemplate(err)
		return ""
	}
	r.Template = source
	if f.system == nowhere {
		r.note("the base's chat template takes no system message: it goes in front of the first question")
	}
	if cutsThoughts(source, render) {
		r.note("the base's chat template leaves the thoughts of earlier answers out: Ollama keeps them")
	}
	return f.joints[joint{assistant, user}]
}

func (r *Result) noTemplate(err error) {
	r.note(fmt.Sprintf("no TEMPLATE: the base's cannot be written for Ollama, which takes its own if it knows the base's (%v)", err))
}

func (r *Result) note(text string) { r.Notes = append(r.Notes, text) }
