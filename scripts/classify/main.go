// Classify trains classifiers over an encoder, with finetune and with transformers and PEFT, on the same texts, and tells how well
// they do. Each run is one line of results.jsonl; a run that is there is not made again.
//
//	go run ./scripts/classify --data DIR --model all-minilm-l6-v2-f16.gguf [--python PYTHON] [--results FILE] [--table]
//
// Without --python, an interpreter with torch, transformers, peft and gguf, PEFT's runs are left out. Both sides have one thread,
// the same texts, steps, sentences a step on average, schedule, optimizer and limit of the norm; the orders of the texts and the
// start values are each side's own.
package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

func main() {
	if err := command(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "classify:", err)
		os.Exit(1)
	}
}

func command(args []string) error {
	var b bench
	flags := flag.NewFlagSet("classify", flag.ContinueOnError)
	flags.StringVar(&b.data, "data", "", "folder with tasks/")
	flags.StringVar(&b.model, "model", "", "an encoder, a GGUF")
	flags.StringVar(&b.python, "python", "", "Python with torch, transformers, peft and gguf")
	flags.StringVar(&b.program, "program", "bin/finetune", "the program")
	file := flags.String("results", "scripts/classify/results.jsonl", "file of results")
	only := flags.Bool("table", false, "print the table of what was made, and make nothing")
	if err := flags.Parse(args); err != nil {
		return err
	}
	made, err := readRuns(*file)
	if err != nil || *only {
		return errors.Join(err, printTable(os.Stdout, made))
	}
	if b.data == "" || b.model == "" {
		return errors.New("want --data and --model")
	}
	if b.work, err = os.MkdirTemp("", "classify-"); err != nil {
		return err
	}
	defer os.RemoveAll(b.work)
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	for s, ok := next(made, b.python != ""); ok; s, ok = next(made, b.python != "") {
		r, err := b.make(ctx, s)
		if err != nil {
			return err
		}
		if err := appendRun(*file, r); err != nil {
			return err
		}
		fmt.Printf("%s: accuracy %.4f, Matthews %.4f, %.0f s\n", r.settings, r.Accuracy, r.Matthews, r.Seconds)
		made = append(made, r)
	}
	return printTable(os.Stdout, made)
}

// A run is one training and what its classifier does on the held-out texts.
type run struct {
	settings
	Accuracy float64 `json:"accuracy"`
	Matthews float64 `json:"matthews"`
	Loss     float64 `json:"loss"`     // held-out, mean −log of the right class's probability
	Seconds  float64 `json:"seconds"`  // of the whole process that trains, under whatever else the machine did
	MaxRSSMB int64   `json:"peak_mb"`  // most resident memory of that process
	Versions string  `json:"versions"` // of what trained
}

// bench makes runs.
type bench struct{ data, model, python, program, work string }

// make trains and measures one run.
func (b *bench) make(ctx context.Context, s settings) (run, error) {
	train, dev, err := b.files(s.Task)
	if err != nil {
		return run{settings: s}, err
	}
	if s.Tool == "peft" {
		return b.peft(ctx, s, train, dev)
	}
	return b.finetune(ctx, s, train, dev)
}

func (b *bench) finetune(ctx context.Context, s settings, train, dev string) (run, error) {
	r := run{settings: s}
	out, err := os.MkdirTemp(b.work, "run-")
	if err != nil {
		return r, err
	}
	args := []string{"train", "--json", "--task", "classify", "--model", b.model, "--data", train, "--val", dev, "--out", filepath.Join(out, "run"),
		"--method", s.Method, "--rank", strconv.Itoa(s.Rank), "--lr", number(s.LR), "--head-lr", number(s.HeadLR), "--epochs", strconv.Itoa(s.Epochs),
		"--ctx", strconv.Itoa(tasks[s.Task].ctx), "--batch", strconv.Itoa(tasks[s.Task].windows), "--schedule", "linear", "--warmup", "0.1",
		"--seed", strconv.Itoa(s.Seed), "--threads", "1"}
	if s.Start != "" {
		args = append(args, "--start", s.Start)
	}
	began := time.Now()
	if _, r.MaxRSSMB, err = call(ctx, b.program, args...); err != nil {
		return r, err
	}
	r.Seconds = time.Since(began).Round(time.Second).Seconds()
	text, _, err := call(ctx, b.program, "eval", "--json", "--task", "classify", "--model", b.model, "--adapter", filepath.Join(out, "run"), "--data", dev, "--threads", "1")
	if err != nil {
		return r, err
	}
	version, _, err := call(ctx, b.program, "version")
	r.Versions, _, _ = strings.Cut(string(version), "\n")
	return r, errors.Join(err, json.Unmarshal(text, &r))
}

func (b *bench) peft(ctx context.Context, s settings, train, dev string) (run, error) {
	r := run{settings: s}
	began := time.Now()
	text, peak, err := call(ctx, b.python, "scripts/classify/peft_run.py", "--model", b.model, "--train", train, "--dev", dev, "--rank", strconv.Itoa(s.Rank),
		"--lr", number(s.LR), "--head-lr", number(s.HeadLR), "--epochs", strconv.Itoa(s.Epochs), "--batch", strconv.Itoa(tasks[s.Task].sentences),
		"--seed", strconv.Itoa(s.Seed))
	if err != nil {
		return r, err
	}
	r.Seconds, r.MaxRSSMB = time.Since(began).Round(time.Second).Seconds(), peak
	return r, json.Unmarshal(text, &r)
}

// call runs a program, and returns what it prints and the most resident memory it had, in MB.
func call(ctx context.Context, program string, args ...string) ([]byte, int64, error) {
	cmd := exec.CommandContext(ctx, program, args...)
	var out, report bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &report
	if err := cmd.Run(); err != nil {
		return nil, 0, fmt.Errorf("%s %s: %w: %s", program, args[0], err, report.String())
	}
	usage, _ := cmd.ProcessState.SysUsage().(*syscall.Rusage)
	if usage == nil {
		return out.Bytes(), 0, nil
	}
	return out.Bytes(), usage.Maxrss / 1000, nil // Linux counts in units of 1024 bytes
}

func readRuns(path string) ([]run, error) {
	text, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	var runs []run
	for line := range bytes.Lines(text) {
		var r run
		if err := json.Unmarshal(line, &r); err != nil {
			return nil, fmt.Errorf("%s: line %d: %w", path, len(runs)+1, err)
		}
		runs = append(runs, r)
	}
	return runs, err
}

func appendRun(path string, r run) error {
	line, err := json.Marshal(r)
	if err != nil {
		return err
	}
	f, err := os.OpenFile(path, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o644)
	if err != nil {
		return err
	}
	_, err = f.Write(append(line, '\n'))
	return errors.Join(err, f.Close())
}

func number(v float64) string { return strconv.FormatFloat(v, 'g', -1, 64) }
