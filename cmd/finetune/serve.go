package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"os"
	"path/filepath"
	"strings"
	"time"

	"finetune/eval"
	"finetune/model"
	"finetune/models"
	"finetune/serve"

	"github.com/go-skynet/go-llama.cpp/llama"
	"github.com/spf13/cobra"
)

// tokenVariable is where the token of a server is found that is not on the command line, which others can see.
const tokenVariable = variablePrefix + "TOKEN"

// serveFlags are those of finetune serve.
type serveFlags struct {
	evalFlags
	name  string // of the base
	addr  string
	token string
}

// serveReport is what finetune serve prints once it listens.
type serveReport struct {
	URL    string   `json:"url"`
	Models []string `json:"models"`
	Token  bool     `json:"token"` // one is asked for
}

func serveCommand(u *ui) *cobra.Command {
	var f serveFlags
	cmd := &cobra.Command{
		Use:   "serve --model base.gguf [--adapter NAME=FILE|RUNDIR[:SCALE]]…",
		Short: "answer OpenAI's API on this machine, with adapters as models",
		Long: "Serve lets any client of OpenAI's API try a model and its adapters. The base and each\n" +
			"adapter are models of the API; a request for NAME:0.5 applies an adapter at half its\n" +
			"strength, and nothing is loaded anew. Answers are those of run and chat for the same\n" +
			"temperature, seed and threads; what a request leaves out is as in OpenAI's API\n" +
			"(temperature 1).\n\n" +
			"It listens on this machine alone. Pages in a browser are answered only if they come\n" +
			"from this machine too and show the token, which --token or " + tokenVariable + " in the\n" +
			"environment gives; then every client has to show it, as its API key.\n\n" +
			"Ctrl-C or SIGTERM stop it: what is being answered has ten seconds to end.",
		Example: "  finetune serve --model base.gguf --adapter poet=run/ --adapter half=adapter.gguf:0.5\n" +
			"  curl http://127.0.0.1:8080/v1/chat/completions -d '{\"model\": \"poet\", \"messages\": [{\"role\": \"user\", \"content\": \"Hello\"}]}'",
		Args: exactly(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			startEngine(u, f.threads)
			return serveModels(cmd.Context(), u, f)
		},
	}
	flags := cmd.Flags()
	flags.SortFlags = false
	modelFlag(flags, &f.model, modelNames)
	flags.StringArrayVar(&f.adapters, "adapter", nil, "`NAME=PATH` of a GGUF LoRA or run directory, with :SCALE if not 1; without NAME= it has that of its file or folder; may be given several times")
	flags.StringVar(&f.addr, "addr", "127.0.0.1:8080", "`HOST:PORT` on this machine; port 0 is one that is free")
	flags.StringVar(&f.token, "token", "", "`TOKEN` that requests have to show, 16 characters or more; of "+tokenVariable+" if not given")
	f.addRoom(flags, ", of prompt and answer")
	required(cmd, "model")
	missing := cmd.PreRunE
	cmd.PreRunE = func(cmd *cobra.Command, args []string) error {
		if f.name = f.model; !models.IsName(f.name) { // which is a path from here on
			f.name = stem(f.name)
		}
		return missing(cmd, args)
	}
	return cmd
}

// httpLog takes the lines of Go's standard logger.
type httpLog struct{ u *ui }

func (l httpLog) Write(line []byte) (int, error) {
	l.u.say("%s", strings.TrimSpace(string(line)))
	return len(line), nil
}

// stem is what a file is called without its folder and ending.
func stem(path string) string { return strings.TrimSuffix(filepath.Base(path), ".gguf") }

func serveModels(ctx context.Context, u *ui, f serveFlags) error {
	if f.token == "" {
		f.token = os.Getenv(tokenVariable)
	}
	log.SetFlags(0) // where net/http says what it thinks of a connection
	log.SetOutput(io.Discard)
	if u.verbose {
		log.SetOutput(httpLog{u})
	}
	l, err := serve.Listen(f.addr) // before the model is loaded, which takes longer
	if err != nil {
		return err
	}
	defer l.Close()
	return withModel(u, f.evalFlags, func(base *model.Base, m *llama.Model, e *eval.Evaluator) (err error) {
		served, free, err := servedModels(u, f, base, m, e)
		defer func() { err = errors.Join(err, e.Use(), free()) }()
		if err != nil {
			return err
		}
		s, err := serve.New(e, served, serve.Options{Token: f.token, Report: u.served})
		if err != nil {
			return err
		}
		report := serveReport{URL: "http://" + l.Addr().String() + "/v1", Token: f.token != ""}
		for _, m := range served {
			report.Models = append(report.Models, m.Name)
		}
		if err := u.printServing(report); err != nil {
			return err
		}
		return s.Serve(ctx, l)
	})
}

// servedModels loads the adapters and lists what can be asked for, the base first. free closes the adapters, also after an error.
func servedModels(u *ui, f serveFlags, base *model.Base, m *llama.Model, e *eval.Evaluator) (served []serve.Model, free func() error, err error) {
	var all []*eval.Adapter
	free = func() error {
		var err error
		for _, a := range all {
			err = errors.Join(err, a.Close())
		}
		return err
	}
	add := func(name, path string, a *eval.Adapter, scale float32) error {
		of := evalFlags{model: f.model}
		if path != "" {
			of.adapters = []string{path}
		}
		template, o, err := templateOf(of, m)
		served = append(served, serve.Model{Name: name, Adapter: a, Scale: scale, Template: template, Args: o.Args})
		return err
	}
	if err := add(f.name, "", nil, 0); err != nil {
		return nil, free, err
	}
	for _, spec := range f.adapters {
		name, s, err := parseNamed(spec)
		if err != nil {
			return nil, free, err
		}
		if err := checkAdapter(u, s.path, base); err != nil {
			return nil, free, err
		}
		a, err := e.Load(s.path)
		if err != nil {
			return nil, free, err
		}
		all = append(all, a)
		if err := add(name, s.path, a, s.scale); err != nil {
			return nil, free, err
		}
	}
	return served, free, nil
}

// parseNamed reads NAME=PATH[:SCALE], or PATH[:SCALE] by the name of its file or folder.
func parseNamed(spec string) (name string, s scaled, err error) {
	name, path, ok := strings.Cut(spec, "=")
	if !ok || strings.ContainsAny(name, `/\`) { // a path with an equals sign
		name, path = "", spec
	}
	if s, err = parseScaled(path); err != nil {
		return "", s, err
	}
	if name == "" {
		name = stem(s.path)
	}
	return name, s, nil
}

// printServing says that the server listens, and what for.
func (u *ui) printServing(r serveReport) error {
	if u.json {
		return u.printJSON(r)
	}
	asks := ""
	if r.Token {
		asks = ", for who shows the token"
	}
	fmt.Fprintf(u.results(), "listening on %s%s\n", r.URL, asks)
	for _, name := range r.Models {
		fmt.Fprintf(u.results(), "  %s\n", plain(name))
	}
	return u.flush()
}

// served tells of a request, with --verbose.
func (u *ui) served(r serve.Report) {
	if !u.verbose {
		return
	}
	outcome := fmt.Sprintf("%d + %d tokens", r.Prompt, r.Tokens)
	if r.Err != nil {
		outcome += ", " + errorText(r.Err)
	}
	u.say("%s for %q: %d, %s, %v", r.Path, r.Model, r.Status, outcome, r.Took.Round(time.Millisecond))
}
