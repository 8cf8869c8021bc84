package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// Routes from a base to a model.
const (
	routeBase        = "base"
	routeBeside      = "beside"
	routeFloatMerged = "float-merged"
	routeMerged      = "quantized-merged"
)

// floatType stands for full precision.
const floatType = "f16"

// settings are what the lines of one table have in common.
type settings struct {
	Model     string  `json:"model"` // the file's name
	Data      string  `json:"data"`
	Method    string  `json:"method"`
	Rank      int     `json:"rank"`
	Alpha     float64 `json:"alpha"`
	LR        string  `json:"lr"`
	Steps     int     `json:"steps"`
	Batch     int     `json:"batch"`
	Ctx       int     `json:"ctx"`
	Questions int     `json:"questions"`
}

// bench is what the measuring works with.
type bench struct {
	settings
	model, train, val, questions, work, program string
	threads                                     int

	runs string // folder of the runs by these settings
	some string // file with the first questions
}

// prepare makes the base in F16, and the file of questions.
func (b *bench) prepare(ctx context.Context) error {
	b.Model, b.Data = filepath.Base(b.model), filepath.Base(b.train)
	b.runs = filepath.Join(b.work, fmt.Sprintf("%.4x", sha256.Sum256(fmt.Append(nil, b.settings))))
	if err := os.MkdirAll(b.runs, 0o777); err != nil {
		return err
	}
	if err := b.chooseQuestions(); err != nil {
		return err
	}
	if exists(b.zero()) {
		return b.dequantize(ctx)
	}
	dir := filepath.Dir(b.zero())
	if err := os.RemoveAll(dir); err != nil {
		return err
	}
	_, err := b.call(ctx, "train", "--model", b.model, "--data", b.train, "--out", dir, "--method", "lora", "--rank", "1", "--steps", "1",
		"--ctx", strconv.Itoa(b.Ctx), "--batch", "1", "--val", b.val)
	if err != nil {
		return err
	}
	return b.dequantize(ctx)
}

// zero is an adapter that, scaled by 0, has merge write a base in another type.
func (b *bench) zero() string { return filepath.Join(b.work, "zero", "adapter.gguf") }

func (b *bench) base(kind string) string { return filepath.Join(b.work, "base-"+kind+".gguf") }

func (b *bench) dequantize(ctx context.Context) error { return b.convert(ctx, b.model, floatType) }

// convert writes a base in a type, once.
func (b *bench) convert(ctx context.Context, from, kind string) error {
	if exists(b.base(kind)) {
		return nil
	}
	_, err := b.call(ctx, "merge", "--model", from, "--adapter", b.zero()+":0", "--type", kind, "--out", b.base(kind))
	return err
}

// chooseQuestions writes the first of them into a file of their own.
func (b *bench) chooseQuestions() error {
	text, err := os.ReadFile(b.questions)
	if err != nil {
		return err
	}
	var all []json.RawMessage
	if err := json.Unmarshal(text, &all); err != nil {
		return fmt.Errorf("%q: %w", b.questions, err)
	}
	if text, err = json.Marshal(all[:min(b.Questions, len(all))]); err != nil {
		return err
	}
	b.some = filepath.Join(b.runs, "questions.json")
	return os.WriteFile(b.some, text, 0o666)
}

// measure takes a route and measures where it ends.
func (b *bench) measure(ctx context.Context, kind, route string, seed int) (line, error) {
	began := time.Now()
	l := line{settings: b.settings, Type: kind, Route: route, Seed: seed}
	if err := b.convert(ctx, b.base(floatType), kind); err != nil {
		return l, err
	}
	model, adapter := b.base(kind), ""
	var err error
	switch route {
	case routeBeside:
		adapter, err = b.trained(ctx, kind, seed)
	case routeMerged:
		model, err = b.merged(ctx, kind, kind, seed)
	case routeFloatMerged:
		model, err = b.merged(ctx, floatType, kind, seed)
	}
	if err != nil {
		return l, err
	}
	if model != b.base(kind) {
		defer os.Remove(model)
	}
	if err := b.evaluate(ctx, &l, model, adapter); err != nil {
		return l, err
	}
	l.Seconds = time.Since(began).Round(time.Second).Seconds()
	return l, nil
}

// trained returns the adapter of a seed over the base in a type.
func (b *bench) trained(ctx context.Context, kind string, seed int) (string, error) {
	dir := filepath.Join(b.runs, fmt.Sprintf("%s-%d", kind, seed))
	path := filepath.Join(dir, "adapter.gguf")
	if exists(path) {
		return path, nil
	}
	if err := os.RemoveAll(dir); err != nil {
		return "", err
	}
	_, err := b.call(ctx, "train", "--model", b.base(kind), "--data", b.train, "--val", b.val, "--out", dir, "--method", b.Method,
		"--rank", strconv.Itoa(b.Rank), "--alpha", strconv.FormatFloat(b.Alpha, 'g', -1, 64), "--lr", b.LR, "--seed", strconv.Itoa(seed),
		"--steps", strconv.Itoa(b.Steps), "--batch", strconv.Itoa(b.Batch), "--ctx", strconv.Itoa(b.Ctx))
	return path, err
}

// merged returns the model with the adapter of a seed, trained over the base in one type, in its weights in another. No
// importance matrix: the file of the adapter is named, not its run.
func (b *bench) merged(ctx context.Context, trainedOn, kind string, seed int) (string, error) {
	adapter, err := b.trained(ctx, trainedOn, seed)
	if err != nil {
		return "", err
	}
	out := filepath.Join(b.runs, "merged.gguf")
	_, err = b.call(ctx, "merge", "--model", b.base(trainedOn), "--adapter", adapter, "--type", kind, "--out", out)
	return out, err
}

// evaluate measures the loss and the answers.
func (b *bench) evaluate(ctx context.Context, l *line, model, adapter string) error {
	with := []string{"--model", model}
	if adapter != "" {
		with = append(with, "--adapter", adapter)
	}
	info, err := os.Stat(model)
	if err != nil {
		return err
	}
	l.Bytes = info.Size()
	out, err := b.call(ctx, append([]string{"eval", "--data", b.val, "--ctx", strconv.Itoa(b.Ctx)}, with...)...)
	if err != nil {
		return err
	}
	if err := json.Unmarshal(out, l); err != nil {
		return err
	}
	out, err = b.call(ctx, append([]string{"eval", "--choices", "--chat-template", "--data", b.some}, with...)...)
	if err != nil {
		return err
	}
	var answers struct {
		Accuracy     float64 `json:"accuracy"`
		AccuracyNorm float64 `json:"accuracy_norm"`
	}
	err = json.Unmarshal(out, &answers)
	l.Accuracy, l.AccuracyNorm = answers.Accuracy, answers.AccuracyNorm
	return err
}

// call runs the program and returns what it printed, the last line where there are several.
func (b *bench) call(ctx context.Context, args ...string) ([]byte, error) {
	cmd := exec.CommandContext(ctx, b.program, append(args, "--json", "--threads", strconv.Itoa(b.threads))...)
	var said bytes.Buffer
	cmd.Stderr = &said
	out, err := cmd.Output()
	if err != nil {
		lines := strings.Split(strings.TrimSpace(said.String()), "\n")
		return nil, fmt.Errorf("%s %s: %w: %s", b.program, args[0], err, lines[max(0, len(lines)-2):])
	}
	out = bytes.TrimSpace(out)
	return out[bytes.LastIndexByte(out, '\n')+1:], nil
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}
