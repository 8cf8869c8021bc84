package main

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"sync"
)

// results are the runs that were made, in a file of a line each. Goroutines may share it.
type results struct {
	mu   sync.Mutex
	file *os.File
	runs []run
	keys map[string]bool // whether the run was exported
}

// openResults reads what is there and goes on behind it.
func openResults(path string) (*results, error) {
	r := &results{keys: map[string]bool{}}
	runs, err := readResults(path)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	for _, made := range runs {
		r.remember(made)
	}
	r.file, err = os.OpenFile(path, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o644)
	return r, err
}

func readResults(path string) ([]run, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	var runs []run
	lines := bufio.NewScanner(f)
	for n := 1; lines.Scan(); n++ {
		var r run
		if err := json.Unmarshal(lines.Bytes(), &r); err != nil {
			return nil, fmt.Errorf("%s: line %d: %w", path, n, err)
		}
		runs = replace(runs, r)
	}
	return runs, lines.Err()
}

// replace appends a run, in the place of the same run that was not exported yet.
func replace(runs []run, made run) []run {
	key := made.key()
	return append(slices.DeleteFunc(runs, func(r run) bool { return r.key() == key }), made)
}

func (r *results) remember(made run) {
	r.runs = replace(r.runs, made)
	r.keys[made.key()] = made.Exported != 0
}

func (r *results) add(made run) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	line, err := json.Marshal(made)
	if err != nil {
		return err
	}
	if _, err := r.file.Write(append(line, '\n')); err != nil {
		return err
	}
	r.remember(made)
	return nil
}

// has tells whether a run was made, and exported if its group asks for that.
func (r *results) has(want run) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	exported, made := r.keys[want.key()]
	return made && (exported || want.Group != "exported")
}

func (r *results) all() []run {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.runs)
}

func (r *results) close() error { return r.file.Close() }
