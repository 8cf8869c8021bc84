// Merged makes the table that was asked for in llama.cpp#13485: is an adapter better trained on the full-precision base,
// merged and then quantized, or on the quantized base, and there merged or not? For each type and seed three routes:
//
//	float-merged      trained on the base in F16, merged, quantized
//	quantized-merged  trained on the quantized base, merged into it
//	beside            trained on the quantized base, which it stays beside
//
// and, to compare with, the bases themselves (base) and the adapter beside the base in F16. Each is one line of JSON with the loss
// on held-out records and the share of questions with choices that are answered right.
//
//	go run ./scripts/merged --model base.gguf --train FILE --val FILE --questions FILE --work DIR [--results FILE]
//
// A base that is quantized itself is dequantized and then its own full-precision base: what it has lost is no part of the
// table. A line that is there is not measured again, and a run that was trained is kept in --work, so the script can be
// stopped and gone on with.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"slices"
	"strings"
)

func main() {
	if err := command(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "merged:", err)
		os.Exit(1)
	}
}

func command(args []string) error {
	b := bench{}
	var types string
	var seeds int
	flags := flag.NewFlagSet("merged", flag.ContinueOnError)
	flags.StringVar(&b.model, "model", "", "the base, a GGUF of any type")
	flags.StringVar(&b.train, "train", "", "records to train on")
	flags.StringVar(&b.val, "val", "", "records to measure the loss on")
	flags.StringVar(&b.questions, "questions", "", "questions with choices, a JSON list")
	flags.IntVar(&b.Questions, "n", 100, "how many of them")
	flags.StringVar(&b.work, "work", "", "folder for models and runs; some gigabytes")
	flags.StringVar(&types, "types", "q8_0,q4_K,q2_K", "types of the adapted tensors")
	flags.IntVar(&seeds, "seeds", 3, "seeds")
	flags.StringVar(&b.Method, "method", "lora", "method of the adapter")
	flags.IntVar(&b.Rank, "rank", 8, "its rank")
	flags.Float64Var(&b.Alpha, "alpha", 16, "its alpha")
	flags.StringVar(&b.LR, "lr", "4e-3", "learning rate")
	flags.IntVar(&b.Steps, "steps", 30, "optimizer steps")
	flags.IntVar(&b.Batch, "batch", 4, "sequences a step")
	flags.IntVar(&b.Ctx, "ctx", 256, "tokens a sequence")
	flags.IntVar(&b.threads, "threads", 1, "threads")
	flags.StringVar(&b.program, "program", "bin/finetune", "the program")
	file := flags.String("results", "scripts/merged/results.jsonl", "file of results")
	if err := flags.Parse(args); err != nil {
		return err
	}
	for name, value := range map[string]string{"model": b.model, "train": b.train, "val": b.val, "questions": b.questions, "work": b.work} {
		if value == "" {
			return fmt.Errorf("--%s is missing", name)
		}
	}
	r, err := openResults(*file)
	if err != nil {
		return err
	}
	defer r.close()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := b.all(ctx, strings.Split(types, ","), seeds, r); err != nil {
		return err
	}
	return r.table(os.Stdout, b.settings)
}

// all measures what is not measured yet.
func (b *bench) all(ctx context.Context, types []string, seeds int, r *results) error {
	if err := b.prepare(ctx); err != nil {
		return err
	}
	for seed := range seeds + 1 { // 0: the bases
		for _, t := range slices.Concat([]string{floatType}, types) {
			for _, route := range routesOf(t, seed) {
				if r.has(line{settings: b.settings, Type: t, Route: route, Seed: seed}) {
					continue
				}
				l, err := b.measure(ctx, t, route, seed)
				if err != nil {
					return fmt.Errorf("%s, %s, seed %d: %w", t, route, seed, err)
				}
				fmt.Fprintf(os.Stderr, "%s, %s, seed %d: loss %.4f, %.1f %% right\n", t, route, seed, l.Loss, 100*l.Accuracy)
				if err := r.add(l); err != nil {
					return err
				}
			}
		}
	}
	return nil
}

// routesOf lists what is measured of a type.
func routesOf(t string, seed int) []string {
	switch {
	case seed == 0:
		return []string{routeBase}
	case t == floatType:
		return []string{routeBeside}
	}
	return []string{routeFloatMerged, routeMerged, routeBeside}
}
