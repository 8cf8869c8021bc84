package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"regexp"
	"strings"

	"finetune/chat"
	"finetune/eval"
	"finetune/internal/atomicfile"
	"finetune/internal/hint"
	"finetune/model"

	"github.com/go-skynet/go-llama.cpp/llama"
	"github.com/spf13/cobra"
)

// chatCommands are what a line may ask for instead of saying something.
const chatCommands = "/adapter on|off, /reset, /save FILE, /quit"

// mostLine is how long a line of a conversation may be, in bytes.
const mostLine = 4 << 20

// chatFlags are those of finetune chat.
type chatFlags struct {
	evalFlags
	system   string
	sampling eval.Sampling
}

func chatCommand(u *ui) *cobra.Command {
	f := chatFlags{sampling: eval.Sampling{Tokens: 512, TopP: 1, Seed: 1}}
	cmd := &cobra.Command{
		Use:   "chat --model base.gguf [--adapter FILE|RUNDIR[:SCALE]]…",
		Short: "hold a conversation, with and without an adapter, or with two side by side",
		Long: "Chat holds a conversation by the model's own chat template, or by the one that the run of\n" +
			"an adapter was trained with. One line of standard input is one turn. Several adapters\n" +
			"answer one after the other, each in a conversation of its own.\n\n" +
			"  /adapter on|off   with the adapters, or by the base alone\n" +
			"  /reset            begin anew\n" +
			"  /save FILE        the conversation as a line of JSON that train --data takes, one an adapter\n" +
			"  /quit             end, as Ctrl-D does\n\n" +
			"Ctrl-C stops an answer; what was said of it stays in the conversation. A line that begins\n" +
			"with a space is no command.",
		Example: "  finetune chat --model base.gguf --adapter run/\n  finetune chat --model base.gguf --adapter run1/ --adapter run2/ --temp 0.7",
		Args:    exactly(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := f.sampling.Validate(); err != nil {
				return err
			}
			startEngine(u, f.threads)
			return withModel(u, f.evalFlags, func(base *model.Base, m *llama.Model, e *eval.Evaluator) error {
				return converse(cmd.Context(), cmd.InOrStdin(), u, f, base, m, e)
			})
		},
	}
	flags := cmd.Flags()
	flags.SortFlags = false
	modelFlag(flags, &f.model, modelNames)
	flags.StringArrayVar(&f.adapters, "adapter", nil, "GGUF LoRA or run directory, with :SCALE if not 1; may be given several times, and each answers")
	flags.StringVar(&f.system, "system", "", "system message")
	samplingFlags(flags, &f.sampling)
	f.addRoom(flags, "")
	required(cmd, "model")
	return cmd
}

// voice is one who answers, in a conversation of its own.
type voice struct {
	name     string // "" where there is one voice only
	adapters []eval.Scaled
	template chat.Source
	options  chat.Options
	messages []chat.Message
}

// conversation is what finetune chat holds.
type conversation struct {
	u      *ui
	f      chatFlags
	e      *eval.Evaluator
	voices []*voice
	off    bool // the base answers, without the adapters
}

// chatReport is an answer as finetune chat prints it with --json.
type chatReport struct {
	Prompt  string `json:"prompt"`
	Text    string `json:"text"`
	Adapter string `json:"adapter,omitempty"` // of several
}

// converse answers line after line until the input ends.
func converse(ctx context.Context, in io.Reader, u *ui, f chatFlags, base *model.Base, m *llama.Model, e *eval.Evaluator) (err error) {
	c := &conversation{u: u, f: f, e: e}
	defer func() { err = errors.Join(err, c.close()) }()
	if err := c.open(base, m); err != nil {
		return err
	}
	lines := bufio.NewScanner(in)
	lines.Buffer(nil, mostLine)
	u.prompt("> ")
	for ; lines.Scan(); u.prompt("> ") {
		quit, err := c.line(ctx, lines.Text())
		switch {
		case quit:
			return nil
		case err != nil && u.typed && ctx.Err() == nil:
			u.fail(err) // whoever sits there tries again
		case err != nil:
			return err
		}
	}
	if err := lines.Err(); !errors.Is(err, bufio.ErrTooLong) {
		if u.terminal && err == nil {
			u.prompt("\n") // behind Ctrl-D
		}
		return err
	}
	return fmt.Errorf("a line of standard input: want at most %d bytes", mostLine)
}

// open loads the adapters, a voice for each, or one for the base.
func (c *conversation) open(base *model.Base, m *llama.Model) error {
	add := func(of evalFlags, name string, adapters ...eval.Scaled) error {
		template, o, err := templateOf(of, m)
		if err == nil && template.None() {
			err = hint.With(fmt.Errorf("model %q has no chat template", c.f.model), "finetune run --prompt continues a text instead")
		}
		c.voices = append(c.voices, &voice{name: name, adapters: adapters, template: template, options: o})
		return err
	}
	for _, spec := range c.f.adapters {
		s, err := parseScaled(spec)
		if err != nil {
			return err
		}
		if err := checkAdapter(c.u, s.path, base); err != nil {
			return err
		}
		a, err := c.e.Load(s.path)
		if err != nil {
			return err
		}
		name := ""
		if len(c.f.adapters) > 1 {
			name = spec
		}
		if err := add(evalFlags{adapters: []string{spec}}, name, eval.Scaled{Adapter: a, Scale: s.scale}); err != nil {
			return err
		}
	}
	if len(c.voices) == 0 {
		if err := add(evalFlags{}, ""); err != nil {
			return err
		}
	}
	c.reset()
	return nil
}

// close frees the adapters.
func (c *conversation) close() error {
	err := c.e.Use()
	for _, v := range c.voices {
		for _, a := range v.adapters {
			err = errors.Join(err, a.Close())
		}
	}
	return err
}

// reset begins the conversations anew.
func (c *conversation) reset() {
	for _, v := range c.voices {
		if v.messages = nil; c.f.system != "" {
			v.messages = []chat.Message{{Role: "system", Content: c.f.system}}
		}
	}
}

// commandForm is what a line that is a command begins with.
var commandForm = regexp.MustCompile(`^/[a-z]+(\s|$)`)

// line answers a line, or does what it asks for.
func (c *conversation) line(ctx context.Context, text string) (quit bool, err error) {
	switch {
	case strings.TrimSpace(text) == "":
		return false, nil
	case commandForm.MatchString(text):
		return c.command(strings.Fields(text)[0], strings.TrimSpace(text[strings.IndexFunc(text+" ", isSpace):]))
	}
	for _, v := range c.voices {
		if err := c.answer(ctx, v, text); err != nil {
			return false, err
		}
	}
	return false, nil
}

func isSpace(r rune) bool { return r == ' ' || r == '\t' }

func (c *conversation) command(name, argument string) (quit bool, err error) {
	switch {
	case name == "/quit" && argument == "":
		return true, nil
	case name == "/reset" && argument == "":
		c.reset()
	case name == "/adapter" && len(c.f.adapters) == 0:
		return false, errors.New("/adapter: there is none, want --adapter on the command line")
	case name == "/adapter" && (argument == "on" || argument == "off"):
		c.off = argument == "off"
	case name == "/save" && argument != "":
		return false, c.save(argument)
	default:
		return false, hint.With(fmt.Errorf("%q: want %s", strings.TrimSpace(name+" "+argument), chatCommands), "a line that begins with a space is no command")
	}
	return false, nil
}

// answer has one voice answer, and adds both to its conversation. After an error that is as it was.
func (c *conversation) answer(ctx context.Context, v *voice, question string) error {
	asked := append(v.messages[:len(v.messages):len(v.messages)], chat.Message{Role: "user", Content: question})
	prompt, err := chat.PromptFrom(v.template, c.e.Vocab(), v.options, asked)
	if err != nil {
		return err
	}
	tokens, total, err := c.e.Prompt(prompt)
	if err != nil {
		return err
	}
	if total > len(tokens) {
		c.u.warn(fmt.Sprintf("the conversation has outgrown the context of %d tokens: its beginning is not read any more", c.e.NCtx()),
			"/reset begins anew, --ctx takes a longer one")
	}
	adapters := v.adapters
	if c.off {
		adapters = nil
	}
	if err := c.e.Use(adapters...); err != nil {
		return err
	}
	said, err := c.speak(ctx, v, tokens)
	if err != nil {
		return err
	}
	v.messages = append(asked, chat.Message{Role: "assistant", Content: said})
	if c.u.json {
		return c.u.printJSON(chatReport{question, said, v.name})
	}
	fmt.Fprintln(c.u.results())
	return c.u.flush()
}

// speak prints an answer as it comes, until it ends or somebody stops it.
func (c *conversation) speak(ctx context.Context, v *voice, prompt []int32) (string, error) {
	part, done := c.u.stoppable(ctx)
	defer done()
	if v.name != "" && !c.u.json {
		label := v.name
		if c.off {
			label += " off"
		}
		fmt.Fprintf(c.u.results(), "%s: ", plain(label))
	}
	var text strings.Builder
	_, err := c.e.Continue(part, prompt, c.f.sampling, func(s string) {
		text.WriteString(s)
		if !c.u.json {
			fmt.Fprint(c.u.results(), s)
			c.u.flush() // a broken pipe shows at the end
		}
	})
	if err != nil && part.Err() != nil && ctx.Err() == nil { // stopped: the conversation goes on
		err = nil
	}
	return text.String(), err
}

// save writes the conversations as records of messages, a line each.
func (c *conversation) save(path string) error {
	if err := checkOut(path, false, append([]string{c.f.model}, adapterPaths(c.f.adapters)...)...); err != nil {
		return errors.New(errorText(err)) // without the hint of a flag that is not there
	}
	type said struct {
		Role    string `json:"role"`
		Content string `json:"content"`
	}
	records := 0
	err := atomicfile.Write(path, func(w io.Writer) error {
		enc := json.NewEncoder(w)
		enc.SetEscapeHTML(false)
		for _, v := range c.voices {
			if len(v.messages) < 2 { // nobody has answered
				continue
			}
			var messages []said
			for _, m := range v.messages {
				messages = append(messages, said{m.Role, m.Content})
			}
			if err := enc.Encode(map[string][]said{"messages": messages}); err != nil {
				return err
			}
			records++
		}
		if records == 0 {
			return fmt.Errorf("%q: nothing has been said, nothing is saved", path)
		}
		return nil
	})
	if err == nil {
		c.u.say("saved %q: %s", path, counted(records, "conversation", "conversations"))
	}
	return err
}

func adapterPaths(specs []string) (paths []string) {
	for _, spec := range specs {
		if s, err := parseScaled(spec); err == nil {
			paths = append(paths, s.path)
		}
	}
	return paths
}
