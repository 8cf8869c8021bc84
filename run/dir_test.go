package run

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"finetune/internal/hint"
)

// createRun returns a fresh run, closed at the end of the test.
func createRun(t *testing.T) *Dir {
	t.Helper()
	r, err := Create(filepath.Join(t.TempDir(), "deep", "run"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := r.Close(); err != nil {
			t.Error(err)
		}
	})
	return r
}

func touch(t *testing.T, path string) {
	t.Helper()
	if err := os.WriteFile(path, nil, 0o666); err != nil {
		t.Fatal(err)
	}
}

func TestCreate(t *testing.T) {
	for _, tt := range []struct {
		name  string
		files []string
		want  string // the error behind the directory's name; "" = none
		hints []string
	}{
		{"empty folder", nil, "", nil},
		{"leavings of a killed process", []string{".lock", ".finetune-0badcafe.tmp"}, "", nil},
		{"a run inside", []string{"adapter.gguf", "config.yaml"}, "holds a run already",
			[]string{"--resume continues that run; for a new one choose another --out"}},
		{"something else inside", []string{"notes.txt"}, `not empty, holds "notes.txt"`,
			[]string{"choose a new or an empty folder as --out"}},
	} {
		dir := t.TempDir()
		for _, name := range tt.files {
			touch(t, filepath.Join(dir, name))
		}
		r, err := Create(dir)
		if err == nil {
			err = r.Close()
		}
		want := fmt.Sprintf("run directory %q: %s", dir, tt.want)
		if tt.want == "" && err != nil || tt.want != "" && (err == nil || err.Error() != want) {
			t.Errorf("%s: Create error = %v, want %s", tt.name, err, want)
		}
		if got := hint.Of(err); !slices.Equal(got, tt.hints) {
			t.Errorf("%s: hints = %q, want %q", tt.name, got, tt.hints)
		}
		if entries, _ := os.ReadDir(dir); tt.want != "" && len(entries) != len(tt.files) {
			t.Errorf("%s: a refused folder holds %d files, want the %d from before", tt.name, len(entries), len(tt.files))
		}
	}
}

func TestCreateOnFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "file")
	touch(t, path)
	if _, err := Create(path); err == nil || !strings.HasSuffix(err.Error(), ": is a file") {
		t.Errorf("Create error = %v, want …: is a file", err)
	}
}

func TestRunThatWroteNothingLeavesNoFolder(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "run")
	r, err := Create(dir)
	if err != nil {
		t.Fatal(err)
	}
	if err := r.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(dir); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("Stat after Close = %v, want fs.ErrNotExist", err)
	}
}

func TestRunIsLocked(t *testing.T) {
	r := createRun(t)
	touch(t, r.Path(ConfigFile))
	want := fmt.Sprintf("run directory %q: in use by process %d", r.Name(), os.Getpid())
	for name, open := range map[string]func(string) (*Dir, error){"Create": Create, "Open": Open} {
		if _, err := open(r.Name()); err == nil || err.Error() != want {
			t.Errorf("%s of a locked run: error = %v, want %s", name, err, want)
		}
	}
}

func TestOpen(t *testing.T) {
	dir := t.TempDir()
	if _, err := Open(dir); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("Open of an empty folder: error = %v, want fs.ErrNotExist", err)
	}
	touch(t, filepath.Join(dir, ConfigFile))
	for range 2 { // the second time shows that Close released the lock
		r, err := Open(dir)
		if err != nil {
			t.Fatal(err)
		}
		if err := r.Close(); err != nil {
			t.Fatal(err)
		}
	}
	if entries, _ := os.ReadDir(dir); len(entries) != 1 {
		t.Errorf("folder holds %v after Close, want config.yaml alone", entries)
	}
}

func TestCheckpointsOfRun(t *testing.T) {
	r := createRun(t)
	if _, _, err := r.LatestCheckpoint(); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("LatestCheckpoint without any: error = %v, want fs.ErrNotExist", err)
	}
	for _, step := range []int{20, 5, 123456789, 100} {
		touch(t, r.CheckpointPath(step))
	}
	for _, name := range []string{"checkpoint-7.zst", "checkpoint-.zst", "checkpoint-00000300.zst.tmp", "checkpoint--0000003.zst"} {
		touch(t, r.Path(name))
	}
	path, step, err := r.LatestCheckpoint()
	if err != nil || step != 123456789 || filepath.Base(path) != "checkpoint-123456789.zst" {
		t.Errorf("LatestCheckpoint() = %q, %d, %v, want checkpoint-123456789.zst", path, step, err)
	}
	if err := r.PruneCheckpoints(2); err != nil {
		t.Fatal(err)
	}
	if got, err := r.Checkpoints(); err != nil || !slices.Equal(got, []int{100, 123456789}) {
		t.Errorf("Checkpoints() after PruneCheckpoints(2) = %v, %v, want [100 123456789]", got, err)
	}
}

func TestLogAppendsOneLineAnEvent(t *testing.T) {
	r := createRun(t)
	type event struct {
		Event string `json:"event"`
		Step  int    `json:"step"`
	}
	for step := 1; step <= 2; step++ {
		if err := r.Log(event{"step\n", step}); err != nil {
			t.Fatal(err)
		}
	}
	got, _ := os.ReadFile(r.Path(LogFile))
	want := `{"event":"step\n","step":1}` + "\n" + `{"event":"step\n","step":2}` + "\n"
	if string(got) != want {
		t.Errorf("log.jsonl = %q, want %q", got, want)
	}
}

func TestTruncateLog(t *testing.T) {
	const head = `{"event":"start"}` + "\n" + `{"step":1}` + "\n" + `{"step":2}` + "\n"
	for _, tt := range []struct{ name, text, want string }{
		{"nothing to drop", head, head},
		{"later steps", head + `{"step":3}` + "\n" + `{"event":"done"}` + "\n", head},
		{"unfinished last line", head + `{"step":2,"lo`, head},
		{"broken line", head + "{\n" + `{"step":2}` + "\n", head},
		{"empty", "", ""},
		{"what is told again", head + `{"event":"eval","step":2}` + "\n" + `{"event":"checkpoint","step":2}` + "\n" + `{"event":"done","steps":2}` + "\n",
			head + `{"event":"checkpoint","step":2}` + "\n"},
		{"told of other steps", `{"event":"eval"}` + "\n" + `{"event":"eval","step":1}` + "\n", `{"event":"eval"}` + "\n" + `{"event":"eval","step":1}` + "\n"},
	} {
		r := createRun(t)
		if err := os.WriteFile(r.Path(LogFile), []byte(tt.text), 0o666); err != nil {
			t.Fatal(err)
		}
		if err := r.TruncateLog(2, "eval"); err != nil {
			t.Fatal(err)
		}
		if got, _ := os.ReadFile(r.Path(LogFile)); string(got) != tt.want {
			t.Errorf("%s: log.jsonl = %q, want %q", tt.name, got, tt.want)
		}
	}
	r := createRun(t)
	if err := r.TruncateLog(0); err != nil {
		t.Errorf("TruncateLog without a log: error = %v, want none", err)
	}
	if err := r.Log(map[string]any{"event": "eval", "step": 4}); err != nil {
		t.Fatal(err)
	}
	if !r.HasLogged("eval", 4) || r.HasLogged("eval", 3) || r.HasLogged("step", 4) {
		t.Error("HasLogged: want the event of its kind and step alone")
	}
}
