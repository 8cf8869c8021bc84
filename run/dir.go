package run

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"iter"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"finetune/internal/atomicfile"
	"finetune/internal/hint"
	"finetune/internal/machine"
)

// Dir is a run directory that this process holds: a lock keeps a second
// process out until Close. Goroutines must not share a Dir.
type Dir struct {
	dir     string
	lock    *os.File
	log     *os.File // nil before the first event
	events  *os.File // of Chart; nil without
	created bool     // the folder was made by Create
}

// Create makes the directory, or takes an empty one, and locks it. A
// directory with anything in it is an error with a hint and stays as it was.
func Create(dir string) (*Dir, error) {
	created, err := makeDir(dir)
	if err != nil {
		return nil, err
	}
	d, err := lockDir(dir)
	if err != nil {
		return nil, err
	}
	d.created = created
	if err := refuseOccupied(dir); err != nil {
		d.Close()
		return nil, err
	}
	return d, nil
}

// CheckNew reports whether Create could begin a run in dir, as far as that can be told without writing.
func CheckNew(dir string) error {
	info, err := os.Stat(dir)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case err != nil:
		return err
	case !info.IsDir():
		return fmt.Errorf("run directory %q: is a file", dir)
	}
	return refuseOccupied(dir)
}

// Open locks the directory of an earlier run, to resume it. A directory
// without a config.yaml is an error.
func Open(dir string) (*Dir, error) {
	if err := requireRun(dir); err != nil {
		return nil, err
	}
	return lockDir(dir)
}

// makeDir makes dir and its parents and reports whether dir was not there.
func makeDir(dir string) (created bool, err error) {
	info, err := os.Stat(dir)
	switch {
	case err == nil && !info.IsDir():
		return false, fmt.Errorf("run directory %q: is a file", dir)
	case err == nil:
		return false, nil
	case !errors.Is(err, fs.ErrNotExist):
		return false, err
	}
	return true, os.MkdirAll(dir, 0o777)
}

// refuseOccupied returns an error unless dir holds nothing but the lock and
// what a killed process left half written.
func refuseOccupied(dir string) error {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	entries = slices.DeleteFunc(entries, func(e fs.DirEntry) bool { return isScratch(e.Name()) })
	isRun := slices.ContainsFunc(entries, func(e fs.DirEntry) bool { return e.Name() == ConfigFile })
	switch {
	case isRun:
		return hint.With(fmt.Errorf("run directory %q: holds a run already", dir),
			"--resume continues that run; for a new one choose another --out")
	case len(entries) > 0:
		return hint.With(fmt.Errorf("run directory %q: not empty, holds %q", dir, entries[0].Name()),
			"choose a new or an empty folder as --out")
	}
	return nil
}

// isScratch reports whether a file of this name is the lock or one of
// atomicfile's temporary files.
func isScratch(name string) bool {
	return name == lockFile || atomicfile.IsTemporary(name)
}

// requireRun returns an error unless dir is the directory of a run.
func requireRun(dir string) error {
	_, err := os.Stat(filepath.Join(dir, ConfigFile))
	if errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("run directory %q: no run in it, %s is missing: %w", dir, ConfigFile, fs.ErrNotExist)
	}
	return err
}

// lockDir takes the lock of an existing directory.
func lockDir(dir string) (*Dir, error) {
	lock, err := machine.AcquireLock(filepath.Join(dir, lockFile))
	if errors.Is(err, machine.ErrLocked) {
		return nil, hint.With(fmt.Errorf("run directory %q: in use by %s", dir, holder(dir)),
			"wait for that process to end, or choose another --out")
	}
	if err != nil {
		return nil, err
	}
	atomicfile.Sweep(dir) // of what a killed process was writing
	return &Dir{dir: dir, lock: lock}, nil
}

// holder describes the process whose number the lock file carries.
func holder(dir string) string {
	text, err := os.ReadFile(filepath.Join(dir, lockFile))
	if pid, convErr := strconv.Atoi(strings.TrimSpace(string(text))); err == nil && convErr == nil {
		return fmt.Sprintf("process %d", pid)
	}
	return "another process"
}

// Close releases the lock. A directory that Create made and that is still
// empty is removed, so that a run which failed before its first file leaves no
// trace. The error joins all that went wrong.
func (d *Dir) Close() error {
	var errs []error
	for _, f := range []*os.File{d.log, d.events} {
		if f != nil {
			errs = append(errs, f.Close())
		}
	}
	errs = append(errs, machine.ReleaseLock(d.lock))
	if d.created {
		os.Remove(d.dir) // fails, as wanted, when there is anything in it
	}
	return errors.Join(errs...)
}

// Name returns the path of the directory.
func (d *Dir) Name() string { return d.dir }

// Path returns the path of a file of the run, such as ConfigFile.
func (d *Dir) Path(name string) string { return filepath.Join(d.dir, name) }

// CheckpointPath returns the path of the checkpoint after the given step.
func (d *Dir) CheckpointPath(step int) string {
	return d.Path(fmt.Sprintf("%s%08d%s", checkpointPrefix, step, checkpointSuffix))
}

// Checkpoints returns the steps of which the run has a checkpoint, ascending.
func (d *Dir) Checkpoints() ([]int, error) { return ListCheckpoints(d.dir) }

// ListCheckpoints does what Checkpoints does, for a directory that this process does
// not hold: a run that goes on elsewhere may add to the result at any time.
func ListCheckpoints(dir string) ([]int, error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	var steps []int
	for _, e := range entries {
		if step, ok := checkpointStep(e.Name()); ok {
			steps = append(steps, step)
		}
	}
	slices.Sort(steps)
	return steps, nil
}

// checkpointStep parses a name that CheckpointPath gives, and no other.
func checkpointStep(name string) (int, bool) {
	digits, isCheckpoint := strings.CutPrefix(name, checkpointPrefix)
	digits, isZstd := strings.CutSuffix(digits, checkpointSuffix)
	step, err := strconv.Atoi(digits)
	exact := fmt.Sprintf("%08d", step) == digits
	return step, isCheckpoint && isZstd && err == nil && step >= 0 && exact
}

// LatestCheckpoint returns path and step of the newest checkpoint. Without any
// the error is fs.ErrNotExist by errors.Is.
func (d *Dir) LatestCheckpoint() (path string, step int, err error) {
	steps, err := d.Checkpoints()
	if err != nil {
		return "", 0, err
	}
	if len(steps) == 0 {
		return "", 0, fmt.Errorf("run directory %q: no checkpoint in it: %w", d.dir, fs.ErrNotExist)
	}
	step = steps[len(steps)-1]
	return d.CheckpointPath(step), step, nil
}

// PruneCheckpoints removes all but the newest keep checkpoints.
func (d *Dir) PruneCheckpoints(keep int) error {
	steps, err := d.Checkpoints()
	if err != nil {
		return err
	}
	for _, step := range steps[:max(0, len(steps)-keep)] {
		if err := os.Remove(d.CheckpointPath(step)); err != nil {
			return err
		}
	}
	return nil
}

// Log appends event to log.jsonl as one JSON object on one line, in a single
// write: a killed process leaves at most the last line unfinished. With [Dir.Chart] it goes to EventsFile too.
func (d *Dir) Log(event any) error {
	line, err := json.Marshal(event)
	if err != nil {
		return fmt.Errorf("log event: %w", err)
	}
	if d.log == nil {
		d.log, err = os.OpenFile(d.Path(LogFile), os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o666)
		if err != nil {
			return err
		}
	}
	if _, err = d.log.Write(append(line, '\n')); err != nil || d.events == nil {
		return err
	}
	return chart(d.events, line)
}

// TruncateLog drops from log.jsonl what a run that is resumed after the given step will write again: every line from the
// first on whose "step" is above it, a last line that is not whole, events of that step of the kinds in again, and the one
// that the run is done. It must come before the first Log.
func (d *Dir) TruncateLog(step int, again ...string) error {
	if d.log != nil {
		panic("run: internal error: TruncateLog after Log")
	}
	text, err := os.ReadFile(d.Path(LogFile))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	var keep []byte
	for line, e := range logged(text) {
		if e.Step > step {
			break
		}
		if e.Event != "done" && !(e.Step == step && slices.Contains(again, e.Event)) {
			keep = append(keep, line...)
		}
	}
	if len(keep) == len(text) {
		return nil
	}
	return atomicfile.Write(d.Path(LogFile), func(w io.Writer) error {
		_, err := w.Write(keep)
		return err
	})
}

// HasLogged reports whether log.jsonl has an event of a kind and a step.
func (d *Dir) HasLogged(kind string, step int) bool {
	text, err := os.ReadFile(d.Path(LogFile))
	if err != nil {
		return false
	}
	for _, e := range logged(text) {
		if e == (logLine{kind, step}) {
			return true
		}
	}
	return false
}

// logLine is what tells the lines of log.jsonl apart.
type logLine struct {
	Event string
	Step  int
}

// logged yields the lines of text, up to the first that is not whole.
func logged(text []byte) iter.Seq2[[]byte, logLine] {
	return func(yield func([]byte, logLine) bool) {
		for line := range bytes.Lines(text) {
			var e logLine
			if !bytes.HasSuffix(line, []byte("\n")) || json.Unmarshal(line, &e) != nil || !yield(line, e) {
				return
			}
		}
	}
}
