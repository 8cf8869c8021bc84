package main

import (
	"fmt"
	"io"
	"strings"
	"text/tabwriter"

	"finetune/adapter"
	"finetune/internal/setting"
	"finetune/run"
	"finetune/trainer"
	"finetune/trainer/bench"

	"github.com/spf13/cobra"
)

func benchCommand(u *ui) *cobra.Command {
	o := bench.Options{}
	var kinds []string
	var memory string
	var on deviceFlags
	cmd := &cobra.Command{
		Use:   "bench [--model base.gguf | --shape NAME --type TYPE]",
		Short: "measure training speed and memory beside llama.cpp's own forward pass",
		Long: "Bench times training steps, llama.cpp's forward pass on the same tokens and the\n" +
			"multiply-add peak of the processor or of a device's products, in one run. Without a\n" +
			"model it makes one of a real shape with random weights; shapes: " + strings.Join(bench.Shapes(), ", ") + ".",
		Example: "  finetune bench --model base.gguf\n  finetune bench --shape smol135 --type q8_0,q4_k_m --json",
		Args:    exactly(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			for _, name := range o.Methods {
				if _, err := adapter.ParseMethod(name); err != nil && name != run.MethodFull {
					return wrongUsage(cmd, "%v, or %q", err, run.MethodFull)
				}
			}
			if o.Model != "" {
				o.Shape, kinds = "", []string{""}
			}
			if err := o.Validate(); err != nil {
				return wrongUsage(cmd, "%v", err)
			}
			if memory != "" {
				limit, err := setting.ParseBytes(memory)
				if err != nil {
					return wrongUsage(cmd, "--max-memory: %v", err)
				}
				o.MaxMemory = limit
			}
			startEngine(u, o.Threads)
			var err error
			if o.On, err = on.choose(u); err != nil {
				return err
			}
			all := &bench.Report{}
			for _, kind := range kinds {
				o.Type = kind
				r, err := bench.Run(cmd.Context(), o, func(s string) { u.progress("%s", s) })
				if err != nil {
					return err
				}
				all.PeakFlops, all.Threads, all.Device = max(all.PeakFlops, r.PeakFlops), r.Threads, r.Device
				all.Cases = append(all.Cases, r.Cases...)
			}
			if u.json {
				return u.printJSON(all)
			}
			return printBench(u.results(), all)
		},
	}
	flags := cmd.Flags()
	flags.SortFlags = false
	modelFlag(flags, &o.Model, modelNames)
	flags.StringVar(&o.Shape, "shape", "smol135", "without --model: the shape of the model to make")
	flags.StringSliceVar(&kinds, "type", []string{"q8_0"}, "and its types, such as q8_0,q4_0,q4_k_m,f16")
	flags.StringSliceVar(&o.Methods, "method", []string{"lora", "dual-lora"}, "methods; full too, over types f32, f16 and bf16")
	flags.StringSliceVar(&o.Starts, "start", nil, "starts of dual-lora, such as even,thin; without it its first")
	flags.IntVar(&o.MagnitudeEvery, "magnitude-every", 0, "gradients of a magnitude of one rank are formed over one of so many tokens; 0 is all")
	flags.IntVar(&o.Rank, "rank", 8, "rank; dual-lora splits it")
	flags.IntVar(&o.Ctx, "ctx", 512, "tokens in a sequence")
	flags.IntVar(&o.Seqs, "batch", 1, "sequences in a step")
	flags.IntVar(&o.Repeat, "repeat", 5, "steps to time")
	flags.IntVar(&o.Threads, "threads", 0, "threads; 0 is one per physical core")
	on.add(flags)
	flags.StringVar(&memory, "max-memory", "", "memory to stay below, such as 1GiB; of the device, if there is one")
	flags.BoolVar(&o.NoForward, "no-forward", false, "leave llama.cpp's forward pass out")
	flags.BoolVar(&o.Profile, "profile", false, "also show where the time of a step goes")
	flags.StringVar(&o.Dir, "dir", "", "where the models of --shape are kept; if not given a folder of your own in that for temporary files")
	return cmd
}

// benched names what a case measured.
func benched(c bench.Case) string { return strings.TrimSpace(c.Method + " " + c.Start) }

// printPlans shows where each case's memory went, by part as it was planned, and the peak that was measured.
func printPlans(w io.Writer, cases []bench.Case) {
	fmt.Fprint(w, "\nMiB\t\t\tmeasured\tplanned")
	for _, part := range (trainer.Plan{}).Parts() {
		fmt.Fprint(w, "\t"+part.Name)
	}
	for _, c := range cases {
		fmt.Fprintf(w, "\n%s\t%s\t%s\t%d\t%d", c.Model, c.Type, benched(c), toMebibytes(c.PeakRSS), toMebibytes(c.Planned))
		for _, part := range c.Plan.Parts() {
			fmt.Fprintf(w, "\t%d", toMebibytes(part.Bytes))
		}
	}
	fmt.Fprintln(w)
}

// printDevice shows what each case takes on a device, by part as it was planned, and what crosses between it and the CPU in a step.
func printDevice(w io.Writer, r *bench.Report) {
	if r.Device == "" {
		return
	}
	fmt.Fprintf(w, "\nMiB on %s\t\t\tmoved in a step\tplanned", r.Device)
	for _, part := range (trainer.DevicePlan{}).Parts() {
		fmt.Fprint(w, "\t"+part.Name)
	}
	for _, c := range r.Cases {
		fmt.Fprintf(w, "\n%s\t%s\t%s\t%.2f\t%d", c.Model, c.Type, benched(c), float64(c.Moved)/(1<<20), toMebibytes(c.Plan.Device.Total()))
		for _, part := range c.Plan.Device.Parts() {
			fmt.Fprintf(w, "\t%d", toMebibytes(part.Bytes))
		}
	}
	fmt.Fprintln(w)
}

func printBench(w io.Writer, r *bench.Report) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	peakOf := count(r.Threads, "thread")
	if r.Device != "" {
		peakOf = "device " + r.Device
	}
	fmt.Fprintf(t, "peak\t%.0f GFLOP/s on %s\n\n", r.PeakFlops/1e9, peakOf)
	fmt.Fprintln(t, "model\ttype\tmethod\tctx\ttokens/s\tprocessor s a step\tof the peak\tllama.cpp forward\tratio\tpeak memory")
	for _, c := range r.Cases {
		fmt.Fprintf(t, "%s\t%s\t%s\t%d × %d\t%.1f\t%.3f\t%.0f %%\t%.1f\t%.2f\t%s\n", c.Model, c.Type, benched(c), c.Seqs, c.Ctx,
			c.TokensPerSecond, c.ProcessorSeconds, 100*c.UsefulShare, c.ForwardPerSecond, c.ForwardRatio, mebibytes(c.PeakRSS))
	}
	printPlans(t, r.Cases)
	printDevice(t, r)
	for _, c := range r.Cases {
		if len(c.Profile) == 0 {
			continue
		}
		fmt.Fprintf(t, "\n%s %s %s\tnodes\tms\n", c.Model, c.Type, benched(c))
		for _, op := range c.Profile {
			fmt.Fprintf(t, "%s\t%s\t%d\t%.1f\n", op.Part, op.Op, op.Nodes, 1000*op.Seconds)
		}
	}
	return t.Flush()
}
