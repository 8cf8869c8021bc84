package main

import (
	"fmt"
	"io"
	"strconv"
	"strings"
	"text/tabwriter"

	"finetune/convert"

	"github.com/spf13/cobra"
)

func convertCommand(u *ui) *cobra.Command {
	var c convert.Config
	var to string
	cmd := &cobra.Command{
		Use:   "convert --from ADAPTER --to gguf|peft|mlx --model base.gguf --out PATH",
		Short: "convert a LoRA between PEFT, llama.cpp and MLX",
		Long: "Convert reads a PEFT folder, a GGUF LoRA or an MLX adapter folder and writes one of\n" +
			"the others. The base decides the names of modules and the order of their rows; any\n" +
			"quantization of it will do. What the wanted format cannot hold is refused. A DoRA of PEFT\n" +
			"becomes a file that llama.cpp does not load and finetune merge puts into the model.\n\n" +
			"The classifier that PEFT trains along (task_type SEQ_CLS) becomes classifier.gguf beside\n" +
			"the GGUF, which eval, run and merge find there, and goes back into PEFT's folder. Of a BERT\n" +
			"it needs the pooler, which no GGUF has: --transformers names a folder of the base with\n" +
			"model.safetensors. Its config.json, or one beside the adapter, names the classes.",
		Example: "  finetune convert --from peft/ --to gguf --model base.gguf --out adapter.gguf\n" +
			"  finetune convert --from adapter.gguf --to peft --model base.gguf --out peft/",
		Args: exactly(),
		RunE: func(cmd *cobra.Command, _ []string) (err error) {
			if c.To, err = convert.ParseFormat(to); err != nil {
				return wrongUsage(cmd, "--to: want gguf, peft or mlx, got %q", to)
			}
			if err := checkOutOf(c.Out, c.To != convert.GGUF, c.Force, c.From, c.Model); err != nil {
				return err
			}
			r, err := convert.Run(c)
			if err != nil {
				return err
			}
			if u.json {
				return u.printJSON(r)
			}
			return printConversion(u.results(), r)
		},
	}
	flags := cmd.Flags()
	flags.SortFlags = false
	flags.StringVar(&c.From, "from", "", "adapter: a PEFT folder, a GGUF LoRA or an MLX folder")
	flags.StringVar(&to, "to", "", "gguf, peft or mlx")
	modelFlag(flags, &c.Model, modelNames+"; any quantization of the adapter's base")
	flags.StringVar(&c.Out, "out", "", "file (gguf) or folder (peft, mlx) to write")
	flags.StringVar(&c.Transformers, "transformers", "", "folder of the base as transformers has it: the pooler of a BERT, names of classes")
	flags.BoolVar(&c.Force, "force", false, "replace --out, if that is a file or an adapter's folder")
	required(cmd, "from", "to", "model", "out")
	return cmd
}

// printConversion says what was done, and only then what is noteworthy.
func printConversion(w io.Writer, r *convert.Report) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	row := func(name, format string, args ...any) { fmt.Fprintf(t, "%s\t%s\n", name, fmt.Sprintf(format, args...)) }
	row("from", "%s (%s)", plain(r.From), r.FromFormat)
	row("to", "%s (%s)", plain(r.File), r.ToFormat)
	row("modules", "%s of %s, rank %s, %s parameters", thousands(int64(r.Modules)), plain(r.Architecture),
		span(r.RankMin, r.RankMax), thousands(r.Parameters))
	row("scale", "%s%s", scaleSpan(r.ScaleMin, r.ScaleMax), alphaText(r))
	if r.Reordered > 0 {
		row("reordered", "the rows or columns of %s", count(r.Reordered, "module"))
	}
	if r.Classifier != "" {
		row("classifier", "%s, %s: %s", plain(r.Classifier), counted(len(r.Labels), "class", "classes"), plain(strings.Join(r.Labels[:min(len(r.Labels), mostShown)], ", ")))
	}
	if n := len(r.Divided); n > 0 {
		row("divided", "%s among several", count(n, "module"))
	}
	if n := len(r.Joined); n > 0 {
		row("joined", "%s of several", count(n, "module"))
	}
	if n := len(r.Folded); n > 0 {
		row("folded", "scales into B of %s:", count(n, "module"))
	}
	for _, f := range r.Folded {
		row("", "  %s × %s", plain(f.Name), number(f.Factor))
	}
	for _, note := range r.Notes {
		row("note", "%s", plain(note))
	}
	return t.Flush()
}

// alphaText names the alpha that was written.
func alphaText(r *convert.Report) string {
	if r.ToFormat == convert.MLX {
		return ""
	}
	return ", alpha " + number(r.Alpha)
}

// scaleSpan returns one number, or two with a dash.
func scaleSpan(from, to float64) string {
	if from == to {
		return number(from)
	}
	return number(from) + "–" + number(to)
}

// number returns a number in six digits, without those that say nothing.
func number(v float64) string { return strconv.FormatFloat(v, 'g', 6, 64) }
