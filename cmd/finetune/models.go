package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"text/tabwriter"
	"time"

	"finetune/models"
	"finetune/run"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// modelNames says what --model takes.
const modelNames = "base `MODEL`: a GGUF file, or a name that finetune models explains"

// modelValue is --model of a command: a path, or a name that byName turns into one before the command runs.
type modelValue struct{ path *string }

func (v modelValue) String() string {
	if v.path == nil {
		return ""
	}
	return *v.path
}

func (v modelValue) Set(s string) error { *v.path = s; return nil }

func (v modelValue) Type() string { return "file or name" }

// modelFlag defines --model.
func modelFlag(f *pflag.FlagSet, path *string, usage string) { f.Var(modelValue{path}, "model", usage) }

// byName has every command below cmd with a modelFlag find its model before it runs.
func byName(u *ui, cmd *cobra.Command) {
	for _, sub := range cmd.Commands() {
		byName(u, sub)
	}
	flag := cmd.Flags().Lookup("model")
	if flag == nil {
		return
	}
	v, ok := flag.Value.(modelValue)
	if !ok {
		return
	}
	work := cmd.RunE
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		found, err := u.findModel(cmd.Context(), *v.path)
		if err != nil {
			return err
		}
		*v.path = found.Path
		return work(cmd, args)
	}
}

// findModel returns the file that a path or a name stands for, and brings it from the hub if the name asks for that.
func (u *ui) findModel(ctx context.Context, name string) (models.Found, error) {
	if !models.IsName(name) {
		return models.Found{Path: name}, nil
	}
	store, err := models.FromEnvironment(os.Getenv)
	if err != nil {
		return models.Found{}, err
	}
	if u.offline != "" {
		store.Offline = u.offline
	}
	found, err := store.Resolve(ctx, name, u.downloading())
	if err == nil && found.Name != "" {
		u.say("model %q is %q", found.Name, found.Path)
	}
	return found, err
}

// nameModel finds the base of a run: by its setting, or by the name that it had where the file of an earlier part of the run is gone.
func nameModel(ctx context.Context, u *ui, c *run.Config) error {
	if _, err := os.Stat(c.Model); errors.Is(err, fs.ErrNotExist) && c.ModelName != "" && !models.IsName(c.Model) {
		c.Model = c.ModelName
	}
	if !models.IsName(c.Model) {
		return nil
	}
	found, err := u.findModel(ctx, c.Model)
	if err != nil {
		return err
	}
	c.Model, c.ModelName = found.Path, found.Name
	return nil
}

// downloading returns what tells how a download goes on.
func (u *ui) downloading() func(models.Progress) {
	var name string
	var began, said time.Time
	var first int64
	return func(p models.Progress) {
		if p.Name != name {
			name, began, first = p.Name, time.Now(), p.Done
		}
		text := fmt.Sprintf("bringing %s", p.Name)
		if p.Parts > 1 {
			text += fmt.Sprintf(", part %d of %d", p.Part, p.Parts)
		}
		text += fmt.Sprintf(": %s of %s", thousands(toMebibytes(p.Done)), mebibytes(p.Total))
		if took := time.Since(began).Seconds(); took > 1 && p.Done > first {
			rate := float64(p.Done-first) / took
			text += fmt.Sprintf(", %.1f MiB/s, %s left", rate/(1<<20), clock(float64(p.Total-p.Done)/rate))
		}
		if u.progressOf(p.Done, p.Total, "%s", text) {
			return
		}
		if time.Since(began) > patience && time.Since(said) > quietInterval {
			said = time.Now()
			u.say("%s", text)
		}
	}
}

// modelsReport is what finetune models prints.
type modelsReport struct {
	Models []models.Model `json:"models"`
	Places []models.Place `json:"places"` // that were looked in
}

// foundReport is what finetune models NAME prints with --json.
type foundReport struct {
	Name string `json:"name"`
	Path string `json:"path"`
}

func modelsCommand(u *ui) *cobra.Command {
	return &cobra.Command{
		Use:   "models [NAME]",
		Short: "list the base models on this machine, or bring one",
		Long: "Models lists the base models that were found, by the names that --model takes in every\n" +
			"command. With a NAME it prints the path of that model, and brings it first if it is one\n" +
			"of the hub that is in no cache.\n\n" +
			"  FILE.gguf                     a path goes before every name\n" +
			"  smollm2, gemma3               what scripts/real-model has brought\n" +
			"  ollama:gemma3:270m            in Ollama's store (OLLAMA_MODELS)\n" +
			"  lmstudio:OWNER/REPO/FILE      in LM Studio's folder\n" +
			"  llama.cpp:FILE                in llama.cpp's own cache (LLAMA_CACHE)\n" +
			"  hf.co/OWNER/REPO:Q4_K_M       on the Hugging Face hub: from a cache (FINETUNE_CACHE,\n" +
			"  hf.co/OWNER/REPO/FILE         HF_HUB_CACHE, HF_HOME), or by the network\n\n" +
			"The network is used for the last two only, and not where a cache has the model.\n" +
			"HF_TOKEN is sent to the hub and nowhere else, HF_ENDPOINT names a mirror of it, and\n" +
			"HF_HUB_OFFLINE=1 forbids the network. A download that was cut off goes on where it was.",
		Example: "  finetune models\n  finetune models hf.co/bartowski/SmolLM2-360M-Instruct-GGUF:Q4_K_M\n  finetune train --model ollama:gemma3:270m --data train.jsonl --out run/",
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) > 1 {
				return wrongUsage(cmd, "one argument too many: %q", args[1])
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) == 1 {
				return printFound(cmd.Context(), u, args[0])
			}
			store, err := models.FromEnvironment(os.Getenv)
			if err != nil {
				return err
			}
			r := modelsReport{store.List(), store.Places()}
			if u.json {
				return u.printJSON(r)
			}
			return printModels(u.results(), r)
		},
	}
}

func printFound(ctx context.Context, u *ui, name string) error {
	found, err := u.findModel(ctx, name)
	if err != nil {
		return err
	}
	if _, err := os.Stat(found.Path); err != nil {
		return err
	}
	if u.json {
		return u.printJSON(foundReport{name, found.Path})
	}
	fmt.Fprintln(u.results(), found.Path)
	return nil
}

func printModels(w io.Writer, r modelsReport) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	if len(r.Models) == 0 {
		fmt.Fprintln(t, "no models; looked in")
		for _, p := range r.Places {
			fmt.Fprintf(t, "  %s\t%s\n", p.Source, plain(p.Path))
		}
		return t.Flush()
	}
	fmt.Fprintln(t, "name\tsize\ttype\tarchitecture\tparameters\tfile")
	for _, m := range r.Models {
		if m.Problem != "" {
			fmt.Fprintf(t, "%s\t%s\t%s\n", plain(m.Name), mebibytes(m.Bytes), plain("cannot be read: "+m.Problem))
			continue
		}
		fmt.Fprintf(t, "%s\t%s\t%s\t%s\t%s M\t%s\n", plain(m.Name), mebibytes(m.Bytes), plain(m.Type), plain(m.Architecture),
			thousands((m.Parameters+5e5)/1e6), plain(m.Path))
	}
	return t.Flush()
}
