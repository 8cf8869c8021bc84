package main

import (
	"os"
	"path/filepath"
	"strings"

	"finetune/adapter"
	"finetune/device"
	"finetune/export"
	"finetune/models"
	"finetune/newmodel"
	"finetune/run"
	"finetune/trainer/bench"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// completions says what a shell offers for a flag, by its name, or by "COMMAND FLAG" where a command means something of its
// own by that. What is not here is a number, for which there is nothing to offer, or a file.
func completions() map[string]cobra.CompletionFunc {
	adapters := paths(func(path string) bool { return isGGUF(path) || run.IsRun(path) })
	runs, others := paths(run.IsRun), paths(func(path string) bool { return isGGUF(path) || run.IsRun(path) || isPEFT(path) })
	folders, data := cobra.FixedCompletions(nil, cobra.ShellCompDirectiveFilterDirs), files("txt", "md", "jsonl", "json", "csv", "tsv", "parquet", "gz", "zst")
	methods := oneOf(append(named(adapter.Methods()), run.MethodFull)...)
	return map[string]cobra.CompletionFunc{
		"model": completeModels, "adapter": adapters, "in": adapters, "run": runs, "init-from": others, "from": others,
		"train out": runs, "demo out": folders, "init run": folders, "dir": folders, "transformers": folders,
		"out": files("gguf"), "init out": files("yaml", "yml"), "convert out": cobra.FixedCompletions(nil, cobra.ShellCompDirectiveDefault),
		"data": data, "val": data, "ngram": data, "train-bpe": data, "config": files("yaml", "yml"), "template": files("jinja"), "vocab-from": files("gguf"),
		"device": completeDevices, "arch": oneOf(newmodel.Architectures()...), "shape": oneOf(bench.Shapes()...),
		"method": methods, "adapter combine method": oneOf(named(adapter.CombineMethods())...), "start": oneOf(named(adapter.MethodDual.Starts())...),
		"targets": oneOf("all-linear", "attention"), "lr": oneOf("usual", "auto"), "schedule": oneOf(run.Schedules...),
		"long-records": oneOf("cut", "skip"), "on-lost": oneOf("refuse", "warn", "skip"), "keep": oneOf("last", "best"),
		"mode": oneOf(export.ModeProject, export.ModeHeal, export.ModeExact), "rank": oneOf(), "export rank": oneOf("auto", "smallest"),
		"to": oneOf("gguf", "peft", "mlx"), "report": files("html"), "addr": oneOf("127.0.0.1:0"), "train ui": oneOf("127.0.0.1:0"), "export type": oneOf("f16", "f32", "q8_0"), "type": oneOf(),
	}
}

// arguments are those of the commands that take some.
func arguments() map[string]cobra.CompletionFunc {
	adapters := paths(func(path string) bool { return isGGUF(path) || run.IsRun(path) })
	return map[string]cobra.CompletionFunc{"inspect": adapters, "ui": paths(run.IsRun), "models": completeModels, "adapter combine": adapters, "adapter diff": adapters}
}

// offerCompletions has a shell told what the commands below root take.
func offerCompletions(root *cobra.Command) {
	flags, arguments := completions(), arguments()
	var each func(*cobra.Command)
	each = func(cmd *cobra.Command) {
		name := strings.TrimPrefix(cmd.CommandPath(), root.Name()+" ")
		cmd.Flags().VisitAll(func(f *pflag.Flag) {
			offer, ok := flags[name+" "+f.Name]
			if !ok {
				offer, ok = flags[f.Name]
			}
			if !ok && strings.HasSuffix(valueNoun(f.Value.Type()), "number") {
				offer, ok = cobra.NoFileCompletions, true
			}
			if ok {
				cmd.RegisterFlagCompletionFunc(f.Name, offer) // fails for a flag that is not there or was completed before
			}
		})
		if cmd.ValidArgsFunction = arguments[name]; cmd.ValidArgsFunction == nil {
			cmd.ValidArgsFunction = cobra.NoFileCompletions
		}
		for _, sub := range cmd.Commands() {
			each(sub)
		}
	}
	each(root)
}

// oneOf offers words.
func oneOf(words ...string) cobra.CompletionFunc {
	return cobra.FixedCompletions(words, cobra.ShellCompDirectiveNoFileComp)
}

// named returns words of their own types as words.
func named[W ~string](words []W) (names []string) {
	for _, w := range words {
		names = append(names, string(w))
	}
	return names
}

// files offers files that end so, and the folders on the way to them.
func files(endings ...string) cobra.CompletionFunc {
	return cobra.FixedCompletions(endings, cobra.ShellCompDirectiveFilterFileExt)
}

func isGGUF(path string) bool { return strings.EqualFold(filepath.Ext(path), ".gguf") }

// isPEFT reports whether a folder is an adapter of PEFT or MLX, which name its settings alike.
func isPEFT(path string) bool {
	_, err := os.Stat(filepath.Join(path, "adapter_config.json"))
	return err == nil
}

// paths offers the files and folders that are wanted, and other folders to look into.
func paths(wanted func(path string) bool) cobra.CompletionFunc {
	return func(_ *cobra.Command, _ []string, typed string) ([]string, cobra.ShellCompDirective) {
		dir, beginning := filepath.Split(typed)
		look := dir
		if look == "" {
			look = "."
		}
		entries, err := os.ReadDir(look)
		if err != nil {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		var found []string
		directive := cobra.ShellCompDirectiveNoFileComp
		for _, e := range entries {
			path := dir + e.Name()
			switch {
			case !strings.HasPrefix(e.Name(), beginning), e.Name()[0] == '.' && beginning == "":
			case wanted(path):
				found = append(found, path)
			case isFolder(path):
				found = append(found, path+string(filepath.Separator))
				directive |= cobra.ShellCompDirectiveNoSpace // it goes on behind the name
			}
		}
		return found, directive
	}
}

func isFolder(path string) bool {
	info, err := os.Stat(path)
	return err == nil && info.IsDir()
}

// completeModels offers the names of the models on this machine, and files.
func completeModels(cmd *cobra.Command, args []string, typed string) ([]string, cobra.ShellCompDirective) {
	found, directive := paths(isGGUF)(cmd, args, typed)
	store, err := models.FromEnvironment(os.Getenv)
	if err != nil {
		return found, directive
	}
	for _, m := range store.List() {
		if strings.HasPrefix(m.Name, typed) {
			found = append(found, m.Name+"\t"+mebibytes(m.Bytes))
		}
	}
	return found, directive
}

// completeDevices offers what --device takes on this machine.
func completeDevices(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) {
	found := []string{device.Auto}
	for _, d := range device.List() {
		found = append(found, d.Name+"\t"+d.Description)
	}
	return found, cobra.ShellCompDirectiveNoFileComp
}
