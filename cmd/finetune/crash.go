package main

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"unicode"

	"finetune/internal/atomicfile"
	"finetune/internal/hint"
	"finetune/internal/version"
)

// endOf says how a worker has ended: with a code of its own, which it has explained, or by a crash, of which last is what the
// runtimes wrote.
func endOf(command string, state *os.ProcessState, last []byte) ending {
	status, _ := state.Sys().(syscall.WaitStatus)
	switch {
	case status.Exited() && !(status.ExitStatus() == goPanics && bytes.Contains(last, []byte("\ngoroutine "))):
		return ending{code: status.ExitStatus()}
	case !status.Signaled():
		return crashed(command, reason(last), last)
	}
	switch s := status.Signal(); s {
	case syscall.SIGINT, syscall.SIGTERM: // before the worker listened to them
		return ending{code: exitInterrupted}
	case syscall.SIGHUP, syscall.SIGPIPE:
		return ending{code: 128 + int(s)}
	case syscall.SIGKILL:
		return ending{exitCrashed, hint.With(fmt.Errorf("%s: ended by the system (SIGKILL), as it does with the largest process when memory runs out", command),
			"a smaller --ctx, or --max-memory where there is one, needs less")}
	default:
		why := reason(last)
		if why == "" {
			why = s.String() + inNative // on a thread that Go does not know
		}
		return crashed(command, why, last)
	}
}

// goPanics is the code that Go's runtime exits with where it gives up before the program has told it otherwise.
const goPanics = 2

// crashed is the end of a worker that nobody foresaw.
func crashed(command, why string, last []byte) ending {
	err := fmt.Errorf("%s: crashed: %s", command, why)
	hints := []string{"a file that it read may be damaged, or ask for what cannot be done; finetune inspect shows what a model says"}
	if strings.HasPrefix(why, "SIGQUIT") { // by somebody who wants the report
		err, hints = fmt.Errorf("%s: stopped where it was by SIGQUIT", command), nil
	}
	if path, failed := writeReport(err.Error(), last); failed == nil {
		hints = append(hints, fmt.Sprintf("a report for the developers is in %q", path))
	}
	return ending{exitCrashed, hint.With(err, hints...)}
}

// inNative says of a signal that it was none of Go's.
const inNative = " in native code"

// mostReason is the length in runes to which what a runtime wrote is cut.
const mostReason = 200

var (
	goSignal = regexp.MustCompile(`^(fatal error: unexpected signal|SIG[A-Z]+: |\[signal )`)
	source   = regexp.MustCompile(`^\S*/([^/\s]+:\d+: )`) // a path of the machine that the program was built on
)

// reason finds in a worker's last words the one line that says why: what ggml, the C++ library or malloc wrote before they
// called abort, which comes first, else Go's own first line.
func reason(last []byte) string {
	var why []string
	for line := range strings.Lines(string(last)) {
		line = strings.TrimSpace(line)
		if line == "" && len(why) == 0 {
			continue
		}
		if len(why) > 0 && !strings.HasPrefix(line, "what():") {
			break
		}
		why = append(why, source.ReplaceAllString(line, "$1"))
		if goSignal.MatchString(line) {
			if bytes.Contains(last, []byte("signal arrived during cgo execution")) || bytes.Contains(last, []byte("runtime.cgocall")) {
				why[0] += inNative
			}
			break
		}
	}
	return tidy(strings.Join(why, ": "))
}

// tidy cuts a line, and takes what a terminal would obey out of it.
func tidy(line string) string {
	line = strings.Map(func(r rune) rune {
		if unicode.IsPrint(r) {
			return r
		}
		return ' '
	}, line)
	if runes := []rune(line); len(runes) > mostReason {
		line = string(runes[:mostReason]) + "…"
	}
	return line
}

// writeReport keeps what is known of a crash, in place of what was known of the last one, and returns the file.
func writeReport(why string, last []byte) (string, error) {
	cache, err := os.UserCacheDir()
	if err != nil {
		return "", err
	}
	path := filepath.Join(cache, "finetune", "crash.txt")
	var text bytes.Buffer
	fmt.Fprintf(&text, "%s\nfinetune %s, revision %q\narguments: %q\n\n", why, version.Version, version.Revision(), os.Args)
	text.Write(last)
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return "", err
	}
	return path, atomicfile.Write(path, func(w io.Writer) error {
		_, err := w.Write(text.Bytes())
		return err
	})
}
