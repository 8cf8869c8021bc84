// Study trains adapters of every method on real tasks, many runs of a minute or two,
// and tells which method learned more. Each run is one line of results.jsonl; a run
// that is there is not made again, so the study can be stopped and gone on with.
//
//	go run ./scripts/study run --data DIR --smollm2 GGUF [--gemma3 GGUF] [--group NAME] [--jobs N]
//	go run ./scripts/study table [--results FILE]
//
// Runs are processes of bin/finetune with one thread each: losses do not depend on
// what else the machine does, times do and are not taken from here.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"sync"
)

func main() {
	if err := command(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "study:", err)
		os.Exit(1)
	}
}

func command(args []string) error {
	if len(args) == 0 {
		return errors.New("want run or table")
	}
	switch args[0] {
	case "run":
		return runCommand(args[1:])
	case "table":
		return tableCommand(args[1:])
	}
	return fmt.Errorf("command %q: want run or table", args[0])
}

func runCommand(args []string) error {
	flags := flag.NewFlagSet("run", flag.ContinueOnError)
	data := flags.String("data", "", "folder with instruct/, tasks/ and text/")
	smollm2 := flags.String("smollm2", "", "SmolLM2-135M-Instruct, a GGUF")
	gemma3 := flags.String("gemma3", "", "Gemma 3 270M, a GGUF; without it its runs are left out")
	group := flags.String("group", "", "only the runs of this group")
	jobs := flags.Int("jobs", 1, "runs at a time")
	program := flags.String("program", "bin/finetune", "the program")
	results := flags.String("results", "scripts/study/results.jsonl", "file of results")
	if err := flags.Parse(args); err != nil {
		return err
	}
	if *data == "" || *smollm2 == "" {
		return errors.New("want --data and --smollm2")
	}
	work, err := os.MkdirTemp("", "study-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(work)
	s := &study{
		program: *program, work: work, data: *data,
		models: map[string]string{"smollm2": *smollm2, "gemma3": *gemma3},
		files:  map[string]taskFiles{},
	}
	if s.results, err = openResults(*results); err != nil {
		return err
	}
	defer s.results.close()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	return s.runAll(ctx, *group, *jobs)
}

// runAll makes the runs that are not there yet, in the order of the plan, jobs at a time.
func (s *study) runAll(ctx context.Context, group string, jobs int) error {
	var wg sync.WaitGroup
	failures := make(chan error, jobs)
	for range jobs {
		wg.Go(func() {
			for ctx.Err() == nil {
				r, ok := s.next(group)
				if !ok {
					return
				}
				if err := s.do(ctx, r); err != nil {
					fmt.Fprintf(os.Stderr, "study: %s: %v\n", r, err)
					failures <- err
					return
				}
			}
		})
	}
	wg.Wait()
	close(failures)
	return <-failures
}

// next takes the first run of the plan that is neither made nor begun. What is planned
// may follow from what was found: rates are those that did best on the tuning seed.
func (s *study) next(group string) (run, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, r := range plan(s.results.all()) {
		key := r.key()
		if s.models[tasks[r.Task].model] == "" || group != "" && r.Group != group || s.begun[key] || s.results.has(r) {
			continue
		}
		if s.begun == nil {
			s.begun = map[string]bool{}
		}
		s.begun[key] = true
		return r, true
	}
	return run{}, false
}

// filesOf returns the task's training and validation files, written at the first call.
func (s *study) filesOf(name string) (taskFiles, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if f, ok := s.files[name]; ok {
		return f, nil
	}
	f, err := tasks[name].prepare(s.data, filepath.Join(s.work, name))
	if err != nil {
		return taskFiles{}, fmt.Errorf("task %s: %w", name, err)
	}
	s.files[name] = f
	return f, nil
}
