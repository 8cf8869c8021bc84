// Command runtests runs go test in one or more modules, prints what go test prints, and ends with one line that names what
// was skipped, and why:
//
//	go run ./cmd/runtests -timeout=30m FOLDER:PATTERN...
//
// It exits with 1 if anything failed, and with FINETUNE_NO_SKIP=1 also if anything was skipped that did not say what it
// needs, in the words of internal/need.
package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
)

func main() {
	var flags, modules []string
	for _, arg := range os.Args[1:] {
		if strings.HasPrefix(arg, "-") {
			flags = append(flags, arg)
		} else {
			modules = append(modules, arg)
		}
	}
	s := &summary{out: os.Stdout}
	for _, module := range modules {
		folder, pattern, _ := strings.Cut(module, ":")
		if err := s.run(folder, append([]string{"test", "-json"}, append(flags, pattern)...)); err != nil {
			fmt.Fprintf(os.Stderr, "runtests: %s: %v\n", module, err)
			s.broken = true
		}
	}
	if s.close(os.Getenv("FINETUNE_NO_SKIP") == "1") {
		return
	}
	os.Exit(1)
}

// run lets go test report to the summary. That tests fail is no error.
func (s *summary) run(folder string, args []string) error {
	cmd := exec.Command("go", args...)
	cmd.Dir, cmd.Stderr = folder, os.Stderr
	events, err := cmd.StdoutPipe()
	if err != nil {
		return err
	}
	if err := cmd.Start(); err != nil {
		return err
	}
	failed := s.failed
	err = s.read(events)
	io.Copy(io.Discard, events) // what is left behind an error
	ended := cmd.Wait()
	if exit := (*exec.ExitError)(nil); errors.As(ended, &exit) && exit.ExitCode() == 1 && s.failed > failed {
		ended = nil
	}
	return errors.Join(err, ended)
}
