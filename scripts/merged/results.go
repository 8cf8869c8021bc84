package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"math"
	"os"
)

// line is one measurement.
type line struct {
	settings
	Type         string  `json:"type"` // of the adapted tensors; where a row is no whole number of its blocks, what merge takes in its place
	Route        string  `json:"route"`
	Seed         int     `json:"seed"` // 0: the base
	Loss         float64 `json:"loss"`
	Accuracy     float64 `json:"accuracy"`
	AccuracyNorm float64 `json:"accuracy_norm"`
	Bytes        int64   `json:"bytes"` // of the model
	Seconds      float64 `json:"seconds"`
}

// key is what a line is a measurement of.
func (l line) key() string { return fmt.Sprint(l.settings, l.Type, l.Route, l.Seed) }

// results is a file of lines that grows.
type results struct {
	file  *os.File
	lines []line
}

func openResults(path string) (*results, error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|os.O_APPEND, 0o666)
	if err != nil {
		return nil, err
	}
	r := &results{file: f}
	for in := bufio.NewScanner(f); in.Scan(); {
		var l line
		if err := json.Unmarshal(in.Bytes(), &l); err != nil {
			return nil, fmt.Errorf("%q: line %d: %w", path, len(r.lines)+1, err)
		}
		r.lines = append(r.lines, l)
	}
	return r, nil
}

func (r *results) close() error { return r.file.Close() }

func (r *results) has(l line) bool {
	for _, known := range r.lines {
		if known.key() == l.key() {
			return true
		}
	}
	return false
}

func (r *results) add(l line) error {
	text, err := json.Marshal(l)
	if err != nil {
		return err
	}
	r.lines = append(r.lines, l)
	_, err = r.file.Write(append(text, '\n'))
	return err
}

// table prints the lines of the same settings in Markdown, the seeds of each as mean and standard deviation.
func (r *results) table(w io.Writer, s settings) error {
	fmt.Fprintln(w, "| type | route | model, bytes | loss | right, % | by character, % | seeds |")
	fmt.Fprintln(w, "|---|---|---|---|---|---|---|")
	done := map[string]bool{}
	for _, first := range r.lines {
		id := first.Type + first.Route
		if first.settings != s || done[id] {
			continue
		}
		done[id] = true
		var loss, right, norm []float64
		for _, l := range r.lines {
			if l.settings == s && l.Type+l.Route == id {
				loss, right, norm = append(loss, l.Loss), append(right, 100*l.Accuracy), append(norm, 100*l.AccuracyNorm)
			}
		}
		if _, err := fmt.Fprintf(w, "| %s | %s | %d | %s | %s | %s | %d |\n", first.Type, first.Route, first.Bytes,
			spread(loss, 4), spread(right, 1), spread(norm, 1), len(loss)); err != nil {
			return err
		}
	}
	return nil
}

// spread writes mean and standard deviation.
func spread(values []float64, digits int) string {
	mean, squares := 0.0, 0.0
	for _, v := range values {
		mean += v / float64(len(values))
	}
	for _, v := range values {
		squares += (v - mean) * (v - mean)
	}
	if len(values) < 2 {
		return fmt.Sprintf("%.*f", digits, mean)
	}
	return fmt.Sprintf("%.*f ± %.*f", digits, mean, digits, math.Sqrt(squares/float64(len(values)-1)))
}
