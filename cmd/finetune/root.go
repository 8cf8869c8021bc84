package main

import (
	"errors"
	"fmt"
	"strings"

	"finetune/internal/hint"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// newRoot returns the command tree. All its talk goes through u.
func newRoot(u *ui) *cobra.Command {
	root := &cobra.Command{
		Use:   "finetune",
		Short: "fine-tune the GGUF you already have, on the laptop you have",
		Long: "finetune trains an adapter (Dual LoRA, LoRA, DoRA) over a quantized GGUF base model\n" +
			"and writes GGUF LoRA files that any llama.cpp app loads.\n\n" +
			"Exit codes: 0 done, 1 failed, 2 wrong usage, 3 crashed, 130 interrupted. A command runs in\n" +
			"a process of its own, so that a crash is an error line; FINETUNE_ONE_PROCESS=1 in the\n" +
			"environment runs it in this one, for debuggers and profilers.",
		Args:          cobra.ArbitraryArgs, // so that an unknown command reaches RunE
		RunE:          unknownCommand,
		SilenceErrors: true,
		SilenceUsage:  true,
	}
	root.SuggestionsMinimumDistance = 2
	root.SetOut(u.results())
	root.SetErr(u.stderr)
	root.SetFlagErrorFunc(flagError)
	root.PersistentFlags().BoolVar(&u.json, "json", false, "print JSON on standard output")
	root.PersistentFlags().BoolVar(&u.verbose, "verbose", false, "show what llama.cpp logs")
	root.AddCommand(initCommand(u), trainCommand(u), dataCommand(u), exportCommand(u), mergeCommand(u), convertCommand(u), adapterCommand(u), evalCommand(u), runCommand(u), chatCommand(u), serveCommand(u), benchCommand(u),
		initModelCommand(u), inspectCommand(u), modelsCommand(u), doctorCommand(u), demoCommand(u), versionCommand(u))
	byName(u, root)
	offerCompletions(root)
	return root
}

// usageError is a command line that cannot be run as it stands.
type usageError struct{ msg string }

func (e *usageError) Error() string { return e.msg }

// wrongUsage returns a usageError with a hint that names the command's help.
func wrongUsage(cmd *cobra.Command, format string, args ...any) error {
	return hint.With(&usageError{fmt.Sprintf(format, args...)}, cmd.CommandPath()+" --help shows the usage")
}

// unknownCommand is what the root command runs: it has no work of its own.
func unknownCommand(root *cobra.Command, args []string) error {
	if len(args) == 0 {
		return wrongUsage(root, "no command given")
	}
	err := wrongUsage(root, "unknown command %q", args[0])
	if near := root.SuggestionsFor(args[0]); len(near) > 0 {
		err = hint.With(err, "did you mean "+strings.Join(near, " or ")+"?")
	}
	return err
}

// exactly returns a check for as many arguments as names, such as "FILE".
func exactly(names ...string) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		switch {
		case len(args) < len(names):
			return wrongUsage(cmd, "%s is missing", names[len(args)])
		case len(args) > len(names):
			return wrongUsage(cmd, "one argument too many: %q", args[len(names)])
		}
		return nil
	}
}

// flagError puts what the flag parser found into words of the command line.
func flagError(cmd *cobra.Command, err error) error {
	var value *pflag.InvalidValueError
	if errors.As(err, &value) {
		flag := value.GetFlag()
		return wrongUsage(cmd, "--%s: want %s, got %q", flag.Name, valueNoun(flag.Value.Type()), value.GetValue())
	}
	return wrongUsage(cmd, "%v", err)
}

// valueNoun says what a flag of the given pflag type takes.
func valueNoun(kind string) string {
	switch kind {
	case "bool":
		return "true or false"
	case "int", "int64":
		return "a whole number"
	case "uint", "uint64":
		return "a whole number, 0 or more"
	case "float32", "float64":
		return "a number"
	}
	return "a " + kind
}
