package main

import (
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"regexp"
	"slices"
	"strings"
)

// event is a line of `go test -json`, as `go doc test2json` has it.
type event struct {
	Action     string
	Package    string
	Test       string // empty: of the whole package
	Output     string
	ImportPath string // of what was built
}

// name is that of a test among all.
type name struct{ pkg, test string }

// summary is what has come out so far.
type summary struct {
	out     io.Writer
	pending map[name]string   // output of tests and packages that have not ended
	skips   map[string][]skip // by the kind of what was missing
	passed  int
	failed  int  // tests and packages
	broken  bool // go test itself did not run to its end
}

// skip is one test that was skipped, and what it said.
type skip struct {
	name
	why string
}

// read takes events up to the end of a run of go test.
func (s *summary) read(events io.Reader) error {
	for dec := json.NewDecoder(events); ; {
		var e event
		if err := dec.Decode(&e); err == io.EOF {
			return nil
		} else if err != nil {
			return err
		}
		s.add(e)
	}
}

func (s *summary) add(e event) {
	n := name{e.Package, e.Test}
	switch e.Action {
	case "build-output":
		fmt.Fprint(s.out, e.Output)
	case "output":
		if s.pending == nil {
			s.pending = map[name]string{}
		}
		if !strings.HasPrefix(e.Output, "=== ") {
			s.pending[n] += e.Output
		}
	case "pass", "fail", "skip":
		if e.Test == "" {
			s.endPackage(n, e.Action)
		} else {
			s.endTest(n, e.Action)
		}
	}
}

// endTest prints the output of a test that failed, after that of its subtests.
func (s *summary) endTest(n name, action string) {
	output := s.pending[n]
	delete(s.pending, n)
	switch action {
	case "pass":
		s.passed++
	case "fail":
		s.failed++
		fmt.Fprint(s.out, output)
	case "skip":
		kind, why := reason(output)
		if s.skips == nil {
			s.skips = map[string][]skip{}
		}
		s.skips[kind] = append(s.skips[kind], skip{n, why})
	}
}

// endPackage prints go test's own line, and where the package failed all of its output and that of tests which never ended.
func (s *summary) endPackage(n name, action string) {
	if action == "fail" {
		s.failed++
		for other, output := range s.pending {
			if other.pkg == n.pkg && other.test != "" {
				fmt.Fprint(s.out, output)
			}
		}
		fmt.Fprint(s.out, s.pending[n])
	} else {
		lines := strings.Split(strings.TrimSuffix(s.pending[n], "\n"), "\n")
		fmt.Fprintln(s.out, lines[len(lines)-1])
	}
	maps.DeleteFunc(s.pending, func(other name, _ string) bool { return other.pkg == n.pkg })
}

// needs is how internal/need begins, behind the place in the source.
var needs = regexp.MustCompile(`(?m)^.*?\.go:\d+: needs ([^:\n]+): (.*)$`)

// said is any other message.
var said = regexp.MustCompile(`(?m)^.*?\.go:\d+: (.*)$`)

// unknown is the kind of skips that do not say what they need.
const unknown = "unknown"

// reason finds out what was missing, and what the test said to it.
func reason(output string) (kind, why string) {
	if m := needs.FindStringSubmatch(output); m != nil {
		return m[1], m[2]
	}
	if m := said.FindAllStringSubmatch(output, -1); m != nil {
		return unknown, m[len(m)-1][1]
	}
	return unknown, "no reason given"
}

// close prints the last lines, and reports whether all is well. Where strict, a skip without a known kind is not.
func (s *summary) close(strict bool) bool {
	skipped, parts := 0, []string{}
	for _, kind := range slices.Sorted(maps.Keys(s.skips)) {
		skips := s.skips[kind]
		skipped += len(skips)
		parts = append(parts, fmt.Sprintf("%d for want of %s (%s)", len(skips), kind, strings.Join(reasons(kind, skips), "; ")))
	}
	if len(parts) == 0 {
		parts = []string{"nothing"}
	}
	fmt.Fprintf(s.out, "tests: %d passed, %d failed, %d skipped\n", s.passed, s.failed, skipped)
	fmt.Fprintf(s.out, "skipped: %s\n", strings.Join(parts, ", "))
	return s.failed == 0 && !s.broken && !(strict && len(s.skips[unknown]) > 0)
}

// reasons are what the skips of a kind said, each once. Of an unknown kind the tests are named too.
func reasons(kind string, skips []skip) (all []string) {
	for _, s := range skips {
		text := s.why
		if kind == unknown {
			text = fmt.Sprintf("%s in %s: %s", s.test, s.pkg, s.why)
		}
		if !slices.Contains(all, text) {
			all = append(all, text)
		}
	}
	slices.Sort(all)
	return all
}
