//go:build unix

package main

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"finetune/internal/need"
	"finetune/internal/testmodel"
	"finetune/run"
)

// faults is a house with a run that is undisturbed, and what commands make of it.
type faults struct {
	house
	base, text string
	whole      string // its run directory
	lora       string
}

func newFaults(t *testing.T) faults {
	need.Long(t, "runs commands while the system fails them")
	f := faults{house: newHouse(t), base: need.Own(t, "demo/base.gguf"), text: need.Own(t, "trainer/testdata/reference.txt")}
	f.whole, f.lora = filepath.Join(f.dir, "whole"), filepath.Join(f.dir, "lora.gguf")
	f.must(f.train(f.whole)...)
	f.must("export", "--run", f.whole, "--out", f.lora, "--threads", "1")
	return f
}

func (f faults) train(out string, more ...string) []string {
	return append([]string{"train", "--model", f.base, "--data", f.text, "--out", out, "--ctx", "32", "--batch", "1", "--steps", "30",
		"--method", "lora", "--rank", "4", "--targets", "attention", "--threads", "1"}, more...)
}

// resumed lets a run come to its end and compares it with the undisturbed one.
func (f faults) resumed(what, out string) {
	f.Helper()
	f.must("train", "--resume", "--out", out, "--threads", "1")
	f.same(what, filepath.Join(out, run.AdapterFile), filepath.Join(f.whole, run.AdapterFile))
}

func (f faults) same(what, got, want string) {
	f.Helper()
	a, err := os.ReadFile(got)
	b, wantErr := os.ReadFile(want)
	if err != nil || wantErr != nil || !bytes.Equal(a, b) {
		f.Errorf("%s: %q is not the same as %q: %v, %v", what, got, want, err, wantErr)
	}
}

// ends runs a command and returns its exit code, -1 for an end by a signal, and what it said.
func ends(cmd *exec.Cmd) (code int, text string) {
	out, err := cmd.CombinedOutput()
	exit := (*exec.ExitError)(nil)
	switch {
	case err == nil:
		return exitDone, string(out)
	case errors.As(err, &exit):
		return exit.ExitCode(), string(out)
	}
	return -2, err.Error()
}

// under returns a command that a shell starts after it has done something, such as set a limit.
func under(before string, args ...string) *exec.Cmd {
	return exec.Command("sh", append([]string{"-c", before + `; exec finetune "$@"`, "finetune"}, args...)...)
}

// A signal, a closed terminal and a reader who leaves end a run with a checkpoint and a code of their own; the run goes on from
// there to the same bytes.
func TestRunIsStoppedInGoodOrder(t *testing.T) {
	f := newFaults(t)
	for name, tt := range map[string]struct {
		stop func(cmd *exec.Cmd, stdout io.Closer) error
		code int
	}{
		"Ctrl-C":      {func(c *exec.Cmd, _ io.Closer) error { return c.Process.Signal(os.Interrupt) }, exitInterrupted},
		"SIGTERM":     {func(c *exec.Cmd, _ io.Closer) error { return c.Process.Signal(syscall.SIGTERM) }, exitInterrupted},
		"SIGHUP":      {func(c *exec.Cmd, _ io.Closer) error { return c.Process.Signal(syscall.SIGHUP) }, exitHangup},
		"closed pipe": {func(_ *exec.Cmd, stdout io.Closer) error { return stdout.Close() }, exitPipe},
		"both at once": {func(c *exec.Cmd, stdout io.Closer) error {
			return errors.Join(stdout.Close(), c.Process.Signal(syscall.SIGHUP))
		}, 0},
	} {
		out := filepath.Join(f.dir, name)
		cmd := exec.Command("finetune", f.train(out, "--json")...)
		stdout, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		lines, step := bufio.NewScanner(stdout), 0
		for step < 3 && lines.Scan() {
			fmt.Sscanf(cutTo(lines.Text(), `"step":`), "%d", &step)
		}
		if err := tt.stop(cmd, stdout); err != nil {
			t.Fatal(err)
		}
		for lines.Scan() { // so that it is not the pipe that ends it
		}
		var exit *exec.ExitError
		if err := cmd.Wait(); !errors.As(err, &exit) || tt.code != 0 && exit.ExitCode() != tt.code || exit.ExitCode() < exitHangup {
			t.Errorf("%s: ends with %v, want code %d", name, err, tt.code)
		}
		if steps, err := run.ListCheckpoints(out); err != nil || len(steps) == 0 || steps[0] < step {
			t.Errorf("%s: checkpoints of steps %v, %v, want one from %d on", name, steps, err, step)
		}
		f.resumed(name, out)
	}
}

// cutTo returns the text behind the first part.
func cutTo(text, part string) string {
	_, rest, _ := strings.Cut(text, part)
	return rest
}

// A chat that waits for somebody to type ends by one signal.
func TestWaitingChatIsStopped(t *testing.T) {
	model := testmodel.Path(t, testmodel.Spec{ChatTemplate: testmodel.ChatML})
	for s, code := range map[os.Signal]int{os.Interrupt: exitInterrupted, syscall.SIGHUP: exitHangup} {
		cmd := exec.Command("finetune", "chat", "--model", model, "--threads", "1", "--n", "1")
		stdin, err := cmd.StdinPipe()
		if err != nil {
			t.Fatal(err)
		}
		defer stdin.Close()
		stdout, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		io.WriteString(stdin, "the\n")
		if _, err := bufio.NewReader(stdout).ReadString('\n'); err != nil {
			t.Fatal(err)
		}
		if err := cmd.Process.Signal(s); err != nil {
			t.Fatal(err)
		}
		killer := time.AfterFunc(20*time.Second, func() { cmd.Process.Kill() })
		exit := (*exec.ExitError)(nil)
		if err := cmd.Wait(); !errors.As(err, &exit) || exit.ExitCode() != code {
			t.Errorf("%v: ends with %v, want code %d", s, err, code)
		}
		killer.Stop()
	}
}

// A command that waits for data on a standard input that says nothing ends by one signal.
func TestSilentStandardInputIsStopped(t *testing.T) {
	base, dir := need.Own(t, "demo/base.gguf"), t.TempDir()
	for name, args := range map[string][]string{
		"train":      {"train", "--model", base, "--data", "-", "--out", filepath.Join(dir, "run"), "--steps", "2", "--threads", "1"},
		"eval":       {"eval", "--model", base, "--data", "-", "--threads", "1"},
		"init-model": {"init-model", "--train-bpe", "-", "--out", filepath.Join(dir, "new.gguf")},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			cmd := exec.Command("finetune", args...)
			silent, err := cmd.StdinPipe()
			if err != nil {
				t.Fatal(err)
			}
			defer silent.Close()
			var stderr bytes.Buffer
			cmd.Stderr = &stderr
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			time.Sleep(2 * time.Second) // it ends by the signal's code too where it has not come to reading yet
			if err := cmd.Process.Signal(os.Interrupt); err != nil {
				t.Fatal(err)
			}
			killer := time.AfterFunc(20*time.Second, func() { cmd.Process.Kill() })
			defer killer.Stop()
			exit := (*exec.ExitError)(nil)
			if err := cmd.Wait(); !errors.As(err, &exit) || exit.ExitCode() != exitInterrupted || !strings.Contains(stderr.String(), "interrupted") {
				t.Errorf("ends with %v, want code %d; says %s", err, exitInterrupted, stderr.String())
			}
		})
	}
}

// A run that was told by nohup to outlive its terminal does.
func TestNohupIsRespected(t *testing.T) {
	f := newFaults(t)
	out := filepath.Join(f.dir, "nohup")
	cmd := under("trap '' HUP", f.train(out, "--json")...)
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	for lines := bufio.NewScanner(stdout); lines.Scan(); {
		if err := cmd.Process.Signal(syscall.SIGHUP); err != nil && !errors.Is(err, os.ErrProcessDone) {
			t.Fatal(err)
		}
	}
	if err := cmd.Wait(); err != nil {
		t.Errorf("under nohup: %v", err)
	}
	f.same("under nohup", filepath.Join(out, run.AdapterFile), filepath.Join(f.whole, run.AdapterFile))
}

// A reader who leaves ends other commands quietly, and a result that cannot be written is an error.
func TestOutputThatCannotBeWritten(t *testing.T) {
	f := newFaults(t)
	cmd := exec.Command("finetune", "inspect", f.base)
	read, write, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	read.Close()
	var stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = write, &stderr
	exit := (*exec.ExitError)(nil)
	if err := cmd.Run(); !errors.As(err, &exit) || exit.ExitCode() != exitPipe || stderr.Len() > 0 {
		t.Errorf("into a closed pipe: %v, says %q, want code %d and no word", err, stderr.String(), exitPipe)
	}
	full, err := os.OpenFile("/dev/full", os.O_WRONLY, 0)
	if err != nil {
		need.Skip(t, need.System, "no /dev/full")
	}
	defer full.Close()
	for _, args := range [][]string{{"inspect", f.base}, {"inspect", "--json", f.base}, f.train(filepath.Join(f.dir, "json"), "--json")} {
		cmd := exec.Command("finetune", args...)
		stderr.Reset()
		cmd.Stdout, cmd.Stderr = full, &stderr
		if err := cmd.Run(); !errors.As(err, &exit) || exit.ExitCode() != exitFailed || !strings.Contains(stderr.String(), "the disk is full") {
			t.Errorf("%s into a full disk: %v, says %q", args[0], err, stderr.String())
		}
	}
}

// Where no file may be as large as it has to be, there is none, and what was learned before is kept.
func TestFilesThatMayNotBeLarge(t *testing.T) {
	f := newFaults(t)
	for name, args := range map[string][]string{
		"merge":   {"merge", "--model", f.base, "--adapter", f.lora, "--out"},
		"export":  {"export", "--run", f.whole, "--threads", "1", "--out"},
		"convert": {"convert", "--from", f.lora, "--to", "peft", "--model", f.base, "--out"},
	} {
		out := filepath.Join(f.dir, name+".out")
		code, text := ends(under("ulimit -f 16", append(args, out)...))
		if code != exitFailed || !strings.Contains(text, "hint: files may be no larger here") {
			t.Errorf("%s: code %d, says %q", name, code, text)
		}
		f.nothingAt(name, out)
		f.must(append(args, out)...)
	}
	out := filepath.Join(f.dir, "train")
	blocks := 2 * f.checkpointKiB() * 3 / 4 // a shell counts in 512 bytes
	code, text := ends(under(fmt.Sprintf("ulimit -f %d", blocks), f.train(out, "--checkpoint-every", "5")...))
	if code != exitFailed || !strings.Contains(text, "hint: files may be no larger here") {
		t.Errorf("train: code %d, says %q", code, text)
	}
	f.nothingAt("train", filepath.Join(out, run.AdapterFile))
	f.resumed("train", out)
}

// checkpointKiB is the size of a checkpoint.
func (f faults) checkpointKiB() int {
	f.Helper()
	info, err := os.Stat(filepath.Join(f.whole, "checkpoint-00000030.zst"))
	if err != nil {
		f.Fatal(err)
	}
	return int(info.Size()+1023) / 1024
}

// nothingAt checks that there is neither a result nor a file on the way to it.
func (f faults) nothingAt(what, out string) {
	f.Helper()
	entries, err := os.ReadDir(filepath.Dir(out))
	if err != nil {
		f.Fatal(err)
	}
	for _, e := range entries {
		if e.Name() == filepath.Base(out) || isTemporary(e.Name()) {
			f.Errorf("%s: failed and left %q", what, e.Name())
		}
	}
}

// mounted mounts a disk of so many KiB; it is gone at the end of the test.
func mounted(t *testing.T, kib int) string {
	t.Helper()
	dir := t.TempDir()
	if text, err := exec.Command("mount", "-t", "tmpfs", "-o", fmt.Sprintf("size=%dk", kib), "tmpfs", dir).CombinedOutput(); err != nil {
		need.Skip(t, need.Rights, "no small disk can be mounted: "+strings.TrimSpace(string(text)))
	}
	t.Cleanup(func() {
		if text, err := exec.Command("umount", dir).CombinedOutput(); err != nil {
			t.Errorf("umount: %v: %s", err, text)
		}
	})
	return dir
}

// On a full disk a run keeps the checkpoint that it has, and goes on from there when there is room.
func TestFullDisk(t *testing.T) {
	f := newFaults(t)
	kib := f.checkpointKiB()
	for name, tt := range map[string]struct {
		room  int // KiB
		fails bool
		least int // the newest checkpoint is of this step or a later one
	}{
		"less than a checkpoint": {kib / 2, true, 0},
		"one and a half":         {kib * 3 / 2, true, 3},
		"two and a half":         {kib*5/2 + 64, false, 30}, // the older of two makes room
		"enough":                 {kib * 5, false, 30},
	} {
		disk := mounted(t, tt.room)
		out := filepath.Join(disk, "run")
		code, text := ends(exec.Command("finetune", f.train(out, "--checkpoint-every", "3")...))
		if fails := code == exitFailed && strings.Contains(text, "hint: the disk is full"); fails != tt.fails || !fails && code != exitDone {
			t.Errorf("%s: code %d, says %s", name, code, text)
		}
		steps, err := run.ListCheckpoints(out)
		if err != nil || tt.least > 0 && (len(steps) == 0 || steps[len(steps)-1] < tt.least) {
			t.Errorf("%s: checkpoints of steps %v, %v, want one of %d or later", name, steps, err, tt.least)
		}
		if tt.least > 0 && tt.fails && !strings.Contains(text, "hint: --resume goes on from the checkpoint of step "+strconv.Itoa(steps[len(steps)-1])) {
			t.Errorf("%s: does not say from where it goes on: %s", name, text)
		}
		if !tt.fails {
			continue
		}
		f.nothingAt(name, filepath.Join(out, run.AdapterFile))
		if text, err := exec.Command("mount", "-o", "remount,size=64m", disk).CombinedOutput(); err != nil {
			t.Fatalf("more room: %v: %s", err, text)
		}
		f.resumed(name, out)
	}
}

// Where nothing may be written the error comes before the work, in one line.
func TestReadOnlyFolder(t *testing.T) {
	f := newFaults(t)
	dir := filepath.Join(f.dir, "read-only")
	if err := os.Mkdir(dir, 0o555); err != nil {
		t.Fatal(err)
	}
	if os.Geteuid() == 0 { // who may write everywhere but there
		dir = "/sys"
		if _, err := os.Stat("/sys/kernel"); err != nil {
			need.Skip(t, need.Rights, "root may write everywhere")
		}
	}
	for name, args := range map[string][]string{
		"merge":   {"merge", "--model", f.base, "--adapter", f.lora, "--out"},
		"export":  {"export", "--run", f.whole, "--threads", "1", "--out"},
		"convert": {"convert", "--from", f.lora, "--to", "peft", "--model", f.base, "--out"},
		"rerank":  {"adapter", "rerank", "--in", f.lora, "--rank", "2", "--out"},
		"train":   f.train("")[:5:5],
	} {
		if name == "train" {
			args = append(args, "--out")
		}
		code, text := ends(exec.Command("finetune", append(args, filepath.Join(dir, "out"))...))
		if code != exitFailed || strings.Count(text, "\n") > 2 || strings.Contains(text, "measuring") || strings.Contains(text, ".tmp") {
			t.Errorf("%s: code %d, says %q", name, code, text)
		}
	}
}

// With few descriptors a command does its work or says that it cannot, and leaves nothing half done.
func TestFewDescriptors(t *testing.T) {
	f := newFaults(t)
	merged := filepath.Join(f.dir, "merged.gguf")
	f.must("merge", "--model", f.base, "--adapter", f.lora, "--out", merged)
	failed := 0
	for n := 8; n <= 20; n += 2 { // with fewer Go's own runtime does not start
		for name, args := range map[string][]string{
			"merge": {"merge", "--model", f.base, "--adapter", f.lora, "--split-max-size", "64KiB"},
			"train": f.train("")[:5:5],
		} {
			out := filepath.Join(f.dir, fmt.Sprint(name, n), "out")
			if err := os.Mkdir(filepath.Dir(out), 0o777); err != nil {
				t.Fatal(err)
			}
			if name == "train" {
				args = append(args, "--steps", "2", "--ctx", "32", "--threads", "1")
			}
			code, text := ends(under("ulimit -n "+strconv.Itoa(n), append(args, "--out", out)...))
			switch {
			case code == exitFailed:
				failed++
				f.nothingAt(fmt.Sprintf("%s with %d descriptors", name, n), filepath.Join(filepath.Dir(out), "none"))
			case code != exitDone:
				t.Errorf("%s with %d descriptors: code %d, says %s", name, n, code, text)
			}
		}
	}
	t.Logf("%d of 14 commands had too few", failed)
}

// In a control group of 64 MiB, or of some more or less, a run is planned to stay below that or refused, and what the kernel kills
// goes on elsewhere. CGROUP names a group, of version 1 or 2, in which the user may make others.
func TestSmallControlGroup(t *testing.T) {
	parent := os.Getenv("CGROUP")
	if parent == "" {
		need.Skip(t, need.Rights, "no control group to make one in: CGROUP names none")
	}
	f := newFaults(t)
	for _, mebibytes := range []int{32, 64, 96, 128, 256} {
		group := filepath.Join(parent, fmt.Sprintf("finetune-test-%d-%d", os.Getpid(), mebibytes))
		if err := os.Mkdir(group, 0o755); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			if err := os.Remove(group); err != nil {
				t.Error(err)
			}
		})
		limit := filepath.Join(group, "memory.max")
		if _, err := os.Stat(limit); err != nil {
			limit = filepath.Join(group, "memory.limit_in_bytes")
		}
		if err := os.WriteFile(limit, []byte(strconv.Itoa(mebibytes<<20)), 0); err != nil {
			t.Fatal(err)
		}
		name := fmt.Sprintf("in %d MiB", mebibytes)
		out := filepath.Join(f.dir, name)
		code, text := ends(under("echo $$ > '"+filepath.Join(group, "cgroup.procs")+"' || exit 99", f.train(out, "--checkpoint-every", "3")...))
		t.Logf("%s: code %d", name, code)
		switch {
		case code == exitDone:
			f.same(name, filepath.Join(out, run.AdapterFile), filepath.Join(f.whole, run.AdapterFile))
		case code == exitFailed && strings.Contains(text, fmt.Sprintf("memory that this process can take, %d MiB", mebibytes)):
		case code == -1:
			f.resumed("killed "+name, out)
		default:
			t.Errorf("%s: code %d, says %s", name, code, text)
		}
	}
}
