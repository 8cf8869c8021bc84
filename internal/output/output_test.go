package output

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"finetune/internal/need"
)

// folder makes a folder with a run directory, a base and a file that is in nobody's way.
func folder(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	for _, name := range []string{"base.gguf", "other.gguf", "run/adapter.gguf", "run/config.yaml", "run/deep/file", "peft/weights"} {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(name), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	for link, to := range map[string]string{"base-link": "base.gguf", "dangling": "nowhere", "run-link": "run"} {
		if err := os.Symlink(to, filepath.Join(dir, link)); err != nil {
			need.Skip(t, need.System, "no symbolic links: "+err.Error())
		}
	}
	for hard, of := range map[string]string{"base-hard": "base.gguf", "adapter-hard": "run/adapter.gguf"} {
		if err := os.Link(filepath.Join(dir, of), filepath.Join(dir, hard)); err != nil {
			need.Skip(t, need.System, "no hard links: "+err.Error())
		}
	}
	return dir
}

func TestCheck(t *testing.T) {
	for _, c := range []struct {
		name, out     string
		force, folder bool
		want          string // part of the error, "" for none
	}{
		{name: "new file", out: "new.gguf"},
		{name: "folder that is not there", out: "no/new.gguf", want: "no\" is not there"},
		{name: "file as a folder", out: "other.gguf/new.gguf", want: "not a directory"},
		{name: "file that is there", out: "other.gguf", want: "exists already"},
		{name: "file that is there, forced", out: "other.gguf", force: true},
		{name: "base", out: "base.gguf", force: true, want: "would be replaced by what is made of it"},
		{name: "base by a symbolic link", out: "base-link", force: true, want: "would be replaced"},
		{name: "base by a hard link", out: "base-hard", force: true, want: "would be replaced"},
		{name: "base by a way around", out: "run/../base.gguf", force: true, want: "would be replaced"},
		{name: "file of the run", out: "run/adapter.gguf", force: true, want: "lies in the run directory"},
		{name: "new file in the run", out: "run/new.gguf", want: "lies in the run directory"},
		{name: "new file deep in the run", out: "run/deep/new.gguf", want: "lies in the run directory"},
		{name: "run by a symbolic link", out: "run-link/config.yaml", force: true, want: "lies in the run directory"},
		{name: "file of the run by a hard link", out: "adapter-hard", force: true, want: "would be replaced"},
		{name: "run itself", out: "run", force: true, folder: true, want: "would be replaced"},
		{name: "file of a folder of files", out: "peft/weights", force: true, want: "would be replaced"},
		{name: "new file in a folder of files", out: "peft/new.gguf"},
		{name: "link to nothing", out: "dangling", want: `a symbolic link to "nowhere"`},
		{name: "folder where a file is wanted", out: "run", force: true, want: "would be replaced"},
		{name: "file where a folder is wanted", out: "other.gguf", force: true, folder: true, want: "is not a folder"},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir := folder(t)
			target := Target{Path: filepath.Join(dir, c.out), Force: c.force, Folder: c.folder,
				Inputs: []string{filepath.Join(dir, "base.gguf"), filepath.Join(dir, "peft"), filepath.Join(dir, "missing"), ""},
				Runs:   []string{filepath.Join(dir, "run"), ""}}
			err := target.Check()
			if c.want == "" && err != nil || c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)) {
				t.Errorf("Check of %q = %v, want %q", c.out, err, c.want)
			}
		})
	}
}

func TestCheckRefusesADevice(t *testing.T) {
	if _, err := os.Stat(os.DevNull); err != nil {
		need.Skip(t, need.System, err.Error())
	}
	err := Target{Path: os.DevNull, Force: true}.Check()
	if err == nil || !strings.Contains(err.Error(), "not a file") {
		t.Errorf("Check of the null device = %v, want that it is no regular file", err)
	}
}
