package main

import (
	"errors"
	"testing"

	"finetune/internal/setting"
	"finetune/run"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// What a shell is offered for the settings of a run is taken, and what is not is refused.
func TestOfferedWordsAreTaken(t *testing.T) {
	refused := func(flag, word string) bool {
		c := run.DefaultConfig()
		flags := pflag.NewFlagSet("train", pflag.ContinueOnError)
		settingFlags(flags, &c)
		c.Model, c.Data, c.Out, c.EvalEvery = "base.gguf", "train.txt", "run", 1
		if err := flags.Set(flag, word); err != nil {
			return true
		}
		var wrong *setting.Error
		return errors.As(c.Completed(flags.Changed).Validate(), &wrong) && wrong.Key == flag
	}
	all := completions()
	for _, flag := range []string{"method", "start", "lr", "schedule", "long-records", "on-lost", "keep", "targets"} {
		words, directive := all[flag](nil, nil, "")
		if len(words) == 0 || directive != cobra.ShellCompDirectiveNoFileComp {
			t.Errorf("--%s: %q, %v, want words and no files", flag, words, directive)
		}
		for _, word := range words {
			if refused(flag, word) {
				t.Errorf("--%s: %q is offered and refused", flag, word)
			}
		}
		if !refused(flag, "nonesuch(") {
			t.Errorf("--%s: the test cannot fail", flag)
		}
	}
}

// Every entry is of a flag or a command that there is.
func TestCompletionsAreOfFlags(t *testing.T) {
	flags, arguments := completions(), arguments()
	root := documented()
	var each func(*cobra.Command)
	each = func(cmd *cobra.Command) {
		name := cmd.CommandPath()[len(root.Name()):]
		cmd.Flags().VisitAll(func(f *pflag.Flag) {
			delete(flags, f.Name)
			if name != "" {
				delete(flags, name[1:]+" "+f.Name)
			}
		})
		if name != "" {
			delete(arguments, name[1:])
		}
		for _, sub := range cmd.Commands() {
			each(sub)
		}
	}
	each(root)
	for name := range flags {
		t.Errorf("%q is completed and is no flag", name)
	}
	for name := range arguments {
		t.Errorf("%q is completed and is no command", name)
	}
}
