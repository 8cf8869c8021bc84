package main

import (
	"fmt"
	"io"
	"math"
	"text/tabwriter"

	"finetune/adapter"
	"finetune/adapter/fileops"
	"finetune/gguf"
	"finetune/run"

	"github.com/spf13/cobra"
)

func adapterCommand(u *ui) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "adapter scale|rerank|combine|diff",
		Short: "scale, shrink, combine and compare adapters",
		Long: "Adapter works on adapter files without the model: GGUF LoRAs from any program, Dual LoRAs\n" +
			"and run directories. A DoRA is refused, because its ΔW depends on the model's weights.",
		Args: cobra.ArbitraryArgs, // so that an unknown command reaches RunE
		RunE: unknownCommand,
	}
	cmd.SuggestionsMinimumDistance = 2
	cmd.AddCommand(scaleCommand(u), rerankCommand(u), combineCommand(u), diffCommand(u))
	return cmd
}

func scaleCommand(u *ui) *cobra.Command {
	var in string
	var by float32
	var out outFlags
	cmd := &cobra.Command{
		Use:   "scale --in ADAPTER --by FACTOR --out FILE",
		Short: "multiply the effect of an adapter",
		Long: "Scale multiplies the alpha of an adapter and leaves its factors unchanged, to the bit.\n" +
			"A negative factor reverses the effect.",
		Example: "  finetune adapter scale --in adapter.gguf --by 0.5 --out half.gguf",
		Args:    exactly(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if !isFactor(by) {
				return wrongUsage(cmd, "--by: want a number other than 0, got %v", by)
			}
			o, err := out.output(cmd)
			if err != nil {
				return err
			}
			path, err := run.AdapterPath(in)
			if err != nil {
				return err
			}
			if err := checkOut(out.out, out.force, path); err != nil {
				return err
			}
			r, err := fileops.Scale(path, by, o)
			return u.showChange(r, err)
		},
	}
	flags := cmd.Flags()
	flags.SortFlags = false
	flags.StringVar(&in, "in", "", "adapter: a GGUF LoRA, a Dual LoRA or a run directory")
	flags.Float32Var(&by, "by", 1, "factor")
	out.add(cmd)
	required(cmd, "in", "out")
	return cmd
}

func rerankCommand(u *ui) *cobra.Command {
	var in string
	var cut adapter.Cut
	var o adapter.CutOptions
	var out outFlags
	cmd := &cobra.Command{
		Use:   "rerank --in ADAPTER (--rank N | --energy SHARE | --budget N) --out FILE",
		Short: "write the nearest LoRA of a lower rank",
		Long: "Rerank truncates each ΔW to its largest singular components: to one rank for all, to as\n" +
			"few as carry a share of ‖ΔW‖², or to ranks that share one budget of parameters.",
		Example: "  finetune adapter rerank --in adapter.gguf --rank 8 --out small.gguf\n  finetune adapter rerank --in adapter.gguf --energy 0.99 --out small.gguf",
		Args:    exactly(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := cut.Check(); err != nil {
				return wrongUsage(cmd, "%v", err)
			}
			output, err := out.output(cmd)
			if err != nil {
				return err
			}
			path, err := run.AdapterPath(in)
			if err != nil {
				return err
			}
			if err := checkOut(out.out, out.force, path); err != nil {
				return err
			}
			o.Progress = u.matrices
			r, err := fileops.Rerank(cmd.Context(), path, cut, o, output)
			return u.showChange(r, err)
		},
	}
	flags := cmd.Flags()
	flags.SortFlags = false
	flags.StringVar(&in, "in", "", "adapter: a GGUF LoRA, a Dual LoRA or a run directory")
	addCut(cmd, &cut)
	flags.Uint64Var(&o.Seed, "seed", 1, "seed of the search in large matrices of a Dual LoRA")
	out.add(cmd)
	required(cmd, "in", "out")
	return cmd
}

func combineCommand(u *ui) *cobra.Command {
	var o adapter.CombineOptions
	var method string
	var out outFlags
	cmd := &cobra.Command{
		Use:   "combine ADAPTER[:WEIGHT]... --method cat|linear|ties|dare|dare-ties --out FILE",
		Short: "make one LoRA of several adapters",
		Long: "Combine adds up the ΔW of adapters, each times its weight, 1 if none is given. A matrix\n" +
			"that one of them does not adapt counts as zero.\n\n" +
			"  cat        concatenate the factors: exact, the ranks add up; LoRAs only\n" +
			"  linear     the weighted sum, truncated\n" +
			"  ties       trim each to its largest elements, elect the sign of each element, average\n" +
			"             those that agree, truncated (arXiv 2306.01708)\n" +
			"  dare       drop random elements of each, rescale the others, the sum, truncated (arXiv 2311.03099)\n" +
			"  dare-ties  drop and rescale as dare does, elect and average as ties does, truncated\n\n" +
			"Truncated to --rank, by default the largest rank of the adapters, or as by rerank.",
		Example: "  finetune adapter combine style.gguf facts.gguf:0.5 --method cat --out both.gguf\n" +
			"  finetune adapter combine a.gguf b.gguf c.gguf --method ties --density 0.3 --rank 16 --out abc.gguf",
		Args: atLeast(1, "ADAPTER"),
		RunE: func(cmd *cobra.Command, args []string) error {
			o.Method = adapter.CombineMethod(method)
			if err := o.Check(); err != nil {
				return wrongUsage(cmd, "%v", err)
			}
			output, err := out.output(cmd)
			if err != nil {
				return err
			}
			from, err := sources(cmd, args)
			if err != nil {
				return err
			}
			for _, s := range from {
				if err := checkOut(out.out, out.force, s.File); err != nil {
					return err
				}
			}
			o.Progress = u.matrices
			r, err := fileops.Combine(cmd.Context(), from, o, output)
			return u.showChange(r, err)
		},
	}
	flags := cmd.Flags()
	flags.SortFlags = false
	flags.StringVar(&method, "method", "", "cat, linear, ties, dare or dare-ties")
	addCut(cmd, &o.Cut)
	flags.Float64Var(&o.Density, "density", 0, "ties, dare: share of the elements of each adapter that is kept; 0 is 0.2 for ties and 0.5 for dare")
	flags.Uint64Var(&o.Seed, "seed", 1, "dare: seed of the elements that are dropped")
	out.add(cmd)
	required(cmd, "method", "out")
	return cmd
}

// atLeast returns a check for n arguments or more.
func atLeast(n int, name string) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		if len(args) < n {
			return wrongUsage(cmd, "%s is missing", name)
		}
		return nil
	}
}

// addCut adds the flags that say how much of each ΔW is kept.
func addCut(cmd *cobra.Command, c *adapter.Cut) {
	cmd.Flags().IntVar(&c.Rank, "rank", 0, "rank of every matrix, less where there is no more to keep")
	cmd.Flags().Float64Var(&c.Energy, "energy", 0, "share of ‖ΔW‖² that every matrix keeps, by the least rank that does")
	cmd.Flags().IntVar(&c.Budget, "budget", 0, "parameters of the file, spent on the matrices where they keep most")
}

// outFlags say where the resulting adapter is written, and as what.
type outFlags struct {
	out   string
	kind  string
	force bool
}

func (f *outFlags) add(cmd *cobra.Command) {
	flags := cmd.Flags()
	flags.StringVar(&f.out, "out", "", "GGUF to write")
	flags.StringVar(&f.kind, "type", "auto", "type of the factors: f32, f16, bf16 or q8_0; auto is the type of the input, or f32 where that would round factors")
	flags.BoolVar(&f.force, "force", false, "replace --out if it exists")
}

// output turns the flags into what the library takes.
func (f *outFlags) output(cmd *cobra.Command) (fileops.Output, error) {
	o := fileops.Output{Out: f.out, Force: f.force}
	if f.kind == "auto" {
		return o, nil
	}
	t, err := gguf.ParseType(f.kind)
	if err != nil || !adapter.Storable(t) {
		return o, wrongUsage(cmd, "--type: want auto, f32, f16, bf16 or q8_0, got %q", f.kind)
	}
	o.Type = &t
	return o, nil
}

// sources reads the adapters and weights of a command line.
func sources(cmd *cobra.Command, args []string) ([]fileops.Source, error) {
	var all []fileops.Source
	for _, arg := range args {
		if arg == "" {
			return nil, wrongUsage(cmd, `want an adapter, got ""`)
		}
		s, err := parseScaled(arg)
		if err != nil {
			return nil, err
		}
		if !isFactor(s.scale) {
			return nil, wrongUsage(cmd, "%q: want a weight other than 0, got %v", s.path, s.scale)
		}
		path, err := run.AdapterPath(s.path)
		if err != nil {
			return nil, err
		}
		all = append(all, fileops.Source{File: path, Weight: float64(s.scale)})
	}
	return all, nil
}

// isFactor reports whether an effect can be multiplied by v.
func isFactor(v float32) bool {
	size := math.Abs(float64(v))
	return size > 0 && size <= math.MaxFloat32
}

// matrices shows the progress of a job that goes matrix by matrix.
func (u *ui) matrices(done, total int) { u.counting("matrix", done, total) }

// showChange prints what was written, or passes the error on.
func (u *ui) showChange(r *fileops.Report, err error) error {
	if err != nil {
		return err
	}
	u.warnOtherBase(r.OtherBase)
	if u.json {
		return u.printJSON(r)
	}
	return printChange(u.results(), r)
}

// warnOtherBase warns that adapters were trained on different bases; an empty text says that they were not.
func (u *ui) warnOtherBase(text string) {
	if text != "" {
		u.warn(text, "an adapter of another model has no defined effect on this one")
	}
}

func printChange(w io.Writer, r *fileops.Report) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	row := func(name, format string, args ...any) { fmt.Fprintf(t, "%s\t%s\n", name, fmt.Sprintf(format, args...)) }
	for i, s := range r.From {
		name := "from"
		if i > 0 {
			name = ""
		}
		if r.Operation == "combine" {
			row(name, "%s × %s", plain(s.File), number(s.Weight))
		} else {
			row(name, "%s", plain(s.File))
		}
	}
	row("file", "%s, %s of %s in %s", plain(r.File), r.Method, plain(r.Architecture), r.Type)
	row("parameters", "%s in %s, rank %s", thousands(int64(r.Parameters)), counted(r.Weights, "matrix", "matrices"), span(r.RankMin, r.RankMax))
	row("scale", "%s", scaleSpan(r.ScaleMin, r.ScaleMax))
	if len(r.Tensors) == 0 {
		return t.Flush()
	}
	row("energy kept", "%.2f %%", 100*r.Energy)
	fmt.Fprintln(t, "\nmatrix\trank\t‖ΔW‖\tenergy kept\terror")
	for _, m := range r.Tensors {
		fmt.Fprintf(t, "%s\t%d\t%s\t%.2f %%\t%.2g\n", plain(m.Name), m.Rank, number(m.Norm), 100*m.Energy, m.Error)
	}
	return t.Flush()
}
