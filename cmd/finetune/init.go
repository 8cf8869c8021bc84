package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"finetune/chat"
	"finetune/device"
	"finetune/internal/atomicfile"
	"finetune/internal/machine"
	"finetune/run"
	"finetune/trainer/data"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// settingsReport is what finetune init prints with --json.
type settingsReport struct {
	File     string            `json:"file"`
	Settings map[string]string `json:"settings"` // those that the material asked for, and why
}

func initCommand(u *ui) *cobra.Command {
	c := run.DefaultConfig()
	c.Out = "run"
	out, force := "finetune.yaml", false
	cmd := &cobra.Command{
		Use:   "init --model MODEL --data FILE [--out finetune.yaml]",
		Short: "write a commented file of settings for a model and data",
		Long: "Init looks at a model and data as train does, asks nothing, and writes a YAML file for\n" +
			"train --config: context, batch and passes by what is there, each with its reason, and every\n" +
			"other setting with its default behind a #.",
		Example: "  finetune init --model ollama:gemma3:270m --data train.jsonl --out finetune.yaml\n  finetune train --config finetune.yaml --dry-run\n  finetune train --config finetune.yaml",
		Args:    exactly(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := checkOut(out, force, c.Data, c.Val); err != nil {
				return err
			}
			if err := c.ValidateRecords(); err != nil {
				return err
			}
			why, err := suggest(cmd.Context(), u, &c)
			if err != nil {
				return err
			}
			if err := writeSettings(out, c, why, cmd.Flags().Changed); err != nil {
				return err
			}
			if u.json {
				return u.printJSON(settingsReport{out, why.reasons})
			}
			for _, key := range []string{"ctx", "epochs", "batch", "eval-every"} {
				if reason, ok := why.reasons[key]; ok {
					fmt.Fprintf(u.results(), "%-12s %s\n", key, plain(reason))
				}
			}
			fmt.Fprintf(u.results(), "\nnext:\n  finetune train --config %[1]s --dry-run\n  finetune train --config %[1]s\n", shellWord(out))
			return nil
		},
	}
	flags := cmd.Flags()
	flags.SortFlags = false
	flags.StringVar(&c.Model, "model", "", modelNames)
	dataFlag(flags, &c.Data, "training data: "+dataFiles)
	flags.Var(&lines{setting: &c.Val, kind: "FILE"}, "val", "validation data, as --data; without it a part of the training data is held out")
	flags.StringVar(&out, "out", out, "YAML `FILE` to write")
	flags.StringVar(&c.Out, "run", c.Out, "run directory that the file names as --out of train")
	flags.BoolVar(&force, "force", false, "replace --out if it exists")
	recordFlags(flags, &c)
	required(cmd, "model", "data")
	return cmd
}

// reasoned is why a file of settings is as it is.
type reasoned struct {
	head    string            // about model and data
	reasons map[string]string // by key
}

// suggest changes the settings to what model and data ask for.
func suggest(ctx context.Context, u *ui, c *run.Config) (_ reasoned, err error) {
	found, err := u.findModel(ctx, c.Model)
	if err != nil {
		return reasoned{}, err
	}
	startEngine(u, 0)
	base, m, err := openModel(found.Path, device.Placement{})
	if err != nil {
		return reasoned{}, err
	}
	defer func() { err = errors.Join(err, m.Close(), base.Close()) }()
	looked, material := c.Dated(time.Now()), run.Material{CtxTrain: m.NCtxTrain()}
	looked.Model, looked.Ctx = found.Path, run.MaxSuggestedCtx(m.NCtxTrain())
	l, err := data.Look(ctx, looked, m.Vocab(), chat.SourceOf(m), 0, u.reading())
	if err != nil {
		return reasoned{}, err
	}
	s := l.Stats
	if s.TrainedTokens == 0 {
		return reasoned{}, fmt.Errorf("data %q: there is no token to learn", c.Data)
	}
	for _, note := range l.Reasons(looked.Ctx) {
		u.warn(note)
	}
	material.Tokens, material.Records, material.Lengths = s.Tokens, s.Records, s.Lengths
	var r reasoned
	*c, r.reasons = c.Suggest(material)
	kind := count(s.Records, "record")
	if len(s.Lengths) == 0 {
		kind = "plain text"
	}
	r.head = fmt.Sprintf("Settings of finetune train, written by finetune init for\n"+
		"  model  %s: %s, %s M parameters, %s tokens at most\n"+
		"  data   %s: %s, %s tokens, of which %s are learned\n\n"+
		"What comes behind a # has its default. FINETUNE_… variables and flags go before this file.\n",
		plain(c.Model), plain(base.Architecture()), thousands(int64((m.NParams()+5e5)/1e6)), thousands(int64(m.NCtxTrain())),
		plain(strings.Join(run.Lines(c.Data), ", ")), kind, thousands(int64(s.Tokens)), thousands(int64(s.TrainedTokens)))
	return r, nil
}

// writeSettings writes the file, given being what the user has set.
func writeSettings(path string, c run.Config, why reasoned, given func(flag string) bool) error {
	usage := run.DefaultConfig()
	flags := pflag.NewFlagSet("train", pflag.ContinueOnError)
	settingFlags(flags, &usage)
	text, err := c.Annotated(why.head, func(key string) run.Note {
		flag := flags.Lookup(key)
		if flag == nil {
			return run.Note{}
		}
		_, words := pflag.UnquoteUsage(flag)
		n := run.Note{Text: words, Set: key == "model" || key == "data" || key == "out" || given(key)}
		if reason, ok := why.reasons[key]; ok {
			short, _, _ := strings.Cut(words, ";")
			n = run.Note{Text: short + ": " + reason, Set: true}
		}
		if key == "max-memory" && machine.Memory() > 0 {
			n.Text += fmt.Sprintf("; this machine has %s", mebibytes(machine.Memory()))
		}
		return n
	})
	if err != nil {
		return err
	}
	return atomicfile.Write(path, func(w io.Writer) error {
		_, err := w.Write(text)
		return err
	})
}
