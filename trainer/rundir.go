package trainer

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"finetune/imatrix"
	"finetune/internal/atomicfile"
	"finetune/internal/hint"
)

// The files of a run directory.
const (
	ConfigFile  = "config.yaml"    // every setting, effective
	AdapterFile = "adapter.gguf"   // the trained factors, once a run is done
	ModelFile   = "model.gguf"     // with MethodFull the trained model, once a run is done
	ImatrixFile = imatrix.FileName // of an adapter's run: what the adapted weights read, and how much the loss depended on what they gave
	LogFile     = "log.jsonl"      // one event a line

	checkpointPrefix = "checkpoint-"
	checkpointSuffix = ".zst"
	lockFile         = ".lock"
)

// Run is a run directory that this process holds: a lock keeps a second
// process out until Close. Goroutines must not share a Run.
type Run struct {
	dir     string
	lock    *os.File
	log     *os.File // nil before the first event
	created bool     // the folder was made by CreateRun
}

// CreateRun makes the directory, or takes an empty one, and locks it. A
// directory with anything in it is an error with a hint and stays as it was.
func CreateRun(dir string) (*Run, error) {
	created, err := makeDir(dir)
	if err != nil {
		return nil, err
	}
	r, err := lockRun(dir)
	if err != nil {
		return nil, err
	}
	r.created = created
	if err := refuseOccupied(dir); err != nil {
		r.Close()
		return nil, err
	}
	return r, nil
}

// OpenRun locks the directory of an earlier run, to resume it. A directory
// without a config.yaml is an error.
func OpenRun(dir string) (*Run, error) {
	if err := requireRun(dir); err != nil {
		return nil, err
	}
	return lockRun(dir)
}

// makeDir makes dir and its parents and reports whether dir was not there.
func makeDir(dir string) (created bool, err error) {
	info, err := os.Stat(dir)
	switch {
	case err == nil && !info.IsDir():
		return false, fmt.Errorf("trainer: run directory %q: is a file", dir)
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
		return hint.With(fmt.Errorf("trainer: run directory %q: holds a run already", dir),
			"--resume continues that run; for a new one choose another --out")
	case len(entries) > 0:
		return hint.With(fmt.Errorf("trainer: run directory %q: not empty, holds %q", dir, entries[0].Name()),
			"choose a new or an empty folder as --out")
	}
	return nil
}

// isScratch reports whether a file of this name is the lock or one of
// atomicfile's temporary files.
func isScratch(name string) bool {
	return name == lockFile || strings.HasPrefix(name, ".finetune-") && strings.HasSuffix(name, ".tmp")
}

// requireRun returns an error unless dir is the directory of a run.
func requireRun(dir string) error {
	_, err := os.Stat(filepath.Join(dir, ConfigFile))
	if errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("trainer: run directory %q: no run in it, %s is missing: %w", dir, ConfigFile, fs.ErrNotExist)
	}
	return err
}

// lockRun takes the lock of an existing directory.
func lockRun(dir string) (*Run, error) {
	lock, err := acquireLock(filepath.Join(dir, lockFile))
	if errors.Is(err, errLocked) {
		return nil, hint.With(fmt.Errorf("trainer: run directory %q: in use by %s", dir, holder(dir)),
			"wait for that process to end, or choose another --out")
	}
	if err != nil {
		return nil, err
	}
	return &Run{dir: dir, lock: lock}, nil
}

// holder describes the process whose number the lock file carries.
func holder(dir string) string {
	text, err := os.ReadFile(filepath.Join(dir, lockFile))
	if pid, convErr := strconv.Atoi(strings.TrimSpace(string(text))); err == nil && convErr == nil {
		return fmt.Sprintf("process %d", pid)
	}
	return "another process"
}

// Close releases the lock. A directory that CreateRun made and that is still
// empty is removed, so that a run which failed before its first file leaves no
// trace. The error joins all that went wrong.
func (r *Run) Close() error {
	var errs []error
	if r.log != nil {
		errs = append(errs, r.log.Close())
	}
	errs = append(errs, releaseLock(r.lock))
	if r.created {
		os.Remove(r.dir) // fails, as wanted, when there is anything in it
	}
	return errors.Join(errs...)
}

// Dir returns the directory.
func (r *Run) Dir() string { return r.dir }

// Path returns the path of a file of the run, such as ConfigFile.
func (r *Run) Path(name string) string { return filepath.Join(r.dir, name) }

// CheckpointPath returns the path of the checkpoint after the given step.
func (r *Run) CheckpointPath(step int) string {
	return r.Path(fmt.Sprintf("%s%08d%s", checkpointPrefix, step, checkpointSuffix))
}

// Checkpoints returns the steps of which the run has a checkpoint, ascending.
func (r *Run) Checkpoints() ([]int, error) { return ListCheckpoints(r.dir) }

// ListCheckpoints is Checkpoints for a directory that this process does not
// hold: a run that goes on elsewhere may add to the result at any time.
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
func (r *Run) LatestCheckpoint() (path string, step int, err error) {
	steps, err := r.Checkpoints()
	if err != nil {
		return "", 0, err
	}
	if len(steps) == 0 {
		return "", 0, fmt.Errorf("trainer: run directory %q: no checkpoint in it: %w", r.dir, fs.ErrNotExist)
	}
	step = steps[len(steps)-1]
	return r.CheckpointPath(step), step, nil
}

// PruneCheckpoints removes all but the newest keep checkpoints.
func (r *Run) PruneCheckpoints(keep int) error {
	steps, err := r.Checkpoints()
	if err != nil {
		return err
	}
	for _, step := range steps[:max(0, len(steps)-keep)] {
		if err := os.Remove(r.CheckpointPath(step)); err != nil {
			return err
		}
	}
	return nil
}

// Log appends event to log.jsonl as one JSON object on one line, in a single
// write: a killed process leaves at most the last line unfinished.
func (r *Run) Log(event any) error {
	line, err := json.Marshal(event)
	if err != nil {
		return fmt.Errorf("trainer: log event: %w", err)
	}
	if r.log == nil {
		r.log, err = os.OpenFile(r.Path(LogFile), os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o666)
		if err != nil {
			return err
		}
	}
	_, err = r.log.Write(append(line, '\n'))
	return err
}

// TruncateLog drops from log.jsonl what a resumed run will write again: every
// line from the first on whose "step" is above the given one, and a last line
// that is not whole. It must come before the first Log.
func (r *Run) TruncateLog(step int) error {
	if r.log != nil {
		panic("trainer: internal error: TruncateLog after Log")
	}
	text, err := os.ReadFile(r.Path(LogFile))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	keep := text[:wholeUpTo(text, step)]
	if len(keep) == len(text) {
		return nil
	}
	return atomicfile.Write(r.Path(LogFile), func(w io.Writer) error {
		_, err := w.Write(keep)
		return err
	})
}

// wholeUpTo returns the length of the leading lines of text that are whole
// JSON objects of a step up to the given one, or of none.
func wholeUpTo(text []byte, step int) int {
	n := 0
	for {
		end := bytes.IndexByte(text[n:], '\n')
		if end < 0 {
			return n
		}
		var event struct{ Step int }
		if json.Unmarshal(text[n:n+end], &event) != nil || event.Step > step {
			return n
		}
		n += end + 1
	}
}
