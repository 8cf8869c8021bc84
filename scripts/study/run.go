package main

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"
)

// A run is one training: what is asked for, and what came of it.
type run struct {
	Group         string  `json:"group"`
	Task          string  `json:"task"`
	Method        string  `json:"method"` // of train --method
	Start         string  `json:"start,omitempty"`
	MagnitudeRank int     `json:"magnitude_rank,omitempty"`
	Rank          int     `json:"rank"`
	Alpha         float64 `json:"alpha"`
	Rho           float64 `json:"rho,omitempty"`
	MagnitudeLR   float64 `json:"magnitude_lr,omitempty"`    // rate of the magnitude over that of the directions
	Every         int     `json:"magnitude_every,omitempty"` // tokens, over one of which the magnitude's gradients are formed
	LR            float64 `json:"lr"`
	Seed          int     `json:"seed"`
	Steps         int     `json:"steps,omitempty"` // 0: the task's

	Base     float64 `json:"base,omitempty"`     // held-out loss without the adapter
	Loss     float64 `json:"loss,omitempty"`     // with it, as the trainer has it
	Exported float64 `json:"exported,omitempty"` // of the GGUF LoRA of the same rank, as llama.cpp has it
	Kept     float64 `json:"kept,omitempty"`     // share of the gain that the export keeps
	Seconds  float64 `json:"seconds,omitempty"`
	Version  string  `json:"version,omitempty"`
}

// asked is a run without what came of it.
func (r run) asked() run {
	r.Base, r.Loss, r.Exported, r.Kept, r.Seconds, r.Version = 0, 0, 0, 0, 0, ""
	return r
}

// key is what a run is; the group and the results are no part of it.
func (r run) key() string {
	r = r.asked()
	r.Group = ""
	type fields run // whose text is all of them, where String leaves some out
	return fmt.Sprintf("%+v", fields(r))
}

func (r run) String() string {
	return fmt.Sprintf("%s %s %s r %d ρ %g lr %g seed %d", r.Task, r.Method, r.Start, r.Rank, r.Rho, r.LR, r.Seed)
}

type study struct {
	program, work, data string
	models              map[string]string
	results             *results

	mu    sync.Mutex
	files map[string]taskFiles
	begun map[string]bool
}

// do trains, exports where the group asks for it, and writes the line.
func (s *study) do(ctx context.Context, r run) error {
	files, err := s.filesOf(r.Task)
	if err != nil {
		return err
	}
	dir, err := os.MkdirTemp(s.work, "run-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	out := filepath.Join(dir, "run")
	began := time.Now()
	trained, err := s.call(ctx, append([]string{"train", "--json", "--out", out}, s.settings(r, files)...)...)
	if err != nil {
		return err
	}
	last, err := lastLine(trained)
	if err != nil {
		return err
	}
	r.Seconds = time.Since(began).Round(time.Second).Seconds()
	r.Base, r.Loss = round(last.Base), round(last.Loss)
	if r.Group == "exported" {
		if r.Exported, r.Kept, err = s.export(ctx, r, out); err != nil {
			return err
		}
	}
	if r.Version, err = s.version(ctx); err != nil {
		return err
	}
	fmt.Printf("%s: %.4f → %.4f, %.0f s\n", r, r.Base, r.Loss, r.Seconds)
	return s.results.add(r)
}

func (s *study) settings(r run, files taskFiles) []string {
	t := tasks[r.Task].shape()
	set := []string{
		"--model", s.models[t.model], "--data", files.train, "--val", files.val,
		"--method", r.Method, "--rank", strconv.Itoa(r.Rank), "--alpha", number(r.Alpha),
		"--lr", number(r.LR), "--seed", strconv.Itoa(r.Seed),
		"--ctx", strconv.Itoa(t.ctx), "--batch", strconv.Itoa(t.batch), "--steps", strconv.Itoa(cmp.Or(r.Steps, t.steps)),
		"--schedule", "linear", "--warmup", "0.1", "--threads", "1",
	}
	if t.targets != "" {
		set = append(set, "--targets", t.targets)
	}
	if r.Start != "" {
		set = append(set, "--start", r.Start)
	}
	if r.MagnitudeRank != 0 {
		set = append(set, "--magnitude-rank", strconv.Itoa(r.MagnitudeRank))
	}
	if r.Rho != 0 {
		set = append(set, "--rho", number(r.Rho))
	}
	if r.MagnitudeLR != 0 {
		set = append(set, "--magnitude-lr", number(r.MagnitudeLR))
	}
	if r.Every != 0 {
		set = append(set, "--magnitude-every", strconv.Itoa(r.Every))
	}
	return set
}

// export writes the file that an app would load, of the adapter's own rank, and returns its loss as llama.cpp has it,
// and the share of the gain that it keeps.
func (s *study) export(ctx context.Context, r run, dir string) (loss, kept float64, err error) {
	file := filepath.Join(filepath.Dir(dir), "adapter.gguf")
	text, err := s.call(ctx, "export", "--run", dir, "--out", file, "--mode", "project", "--rank", strconv.Itoa(r.Rank), "--threads", "1", "--json")
	if err != nil {
		return 0, 0, err
	}
	last, err := lastLine(text)
	return round(last.Exported), round(last.Kept), err
}

func (s *study) version(ctx context.Context) (string, error) {
	text, err := s.call(ctx, "version")
	first, _, _ := strings.Cut(string(text), "\n")
	return first, err
}

func (s *study) call(ctx context.Context, args ...string) ([]byte, error) {
	cmd := exec.CommandContext(ctx, s.program, args...)
	var out, report bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &report
	if err := cmd.Run(); err != nil {
		return nil, fmt.Errorf("%s: %w: %s", args[0], err, report.String())
	}
	return out.Bytes(), nil
}

// A line holds what train, and export, say of losses at their ends.
type line struct {
	Base     float64 `json:"base_val_loss"`
	Loss     float64 `json:"val_loss"`
	Exported float64 `json:"export_loss"`
	Kept     float64 `json:"retention"`
}

func lastLine(text []byte) (line, error) {
	text = bytes.TrimSpace(text)
	var l line
	if err := json.Unmarshal(text[bytes.LastIndexByte(text, '\n')+1:], &l); err == nil {
		return l, nil
	}
	return l, json.Unmarshal(text, &l)
}

func number(v float64) string { return strconv.FormatFloat(v, 'g', -1, 64) }

// round keeps what a loss means.
func round(v float64) float64 {
	v, _ = strconv.ParseFloat(strconv.FormatFloat(v, 'f', 5, 64), 64)
	return v
}
