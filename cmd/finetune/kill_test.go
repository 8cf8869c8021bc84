package main

import (
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"finetune/internal/atomicfile"
	"finetune/internal/need"
	"finetune/run"
)

// kills is how often TestKills kills a command where KILLS says nothing else.
const kills = 20

// everySteps is how many steps lie between checkpoints of the runs that are killed.
const everySteps = 2

// killed is one command that is killed at random moments.
type killed struct {
	name   string
	args   []string // with OUT for the folder that it writes into
	result []string // what it ends with, files and folders in OUT
	resume bool     // it goes on from what it has, with --resume
}

// tokenCache is the user's folder for caches as commands that are killed have it, in the folder that they write into. What it
// ends with is one file.
const tokenCache = "cache"

// killedJobs are the commands, over a run that prepared makes.
func killedJobs(base, text, large, run, lora string) []killed {
	train := func(data string, more ...string) []string {
		return append([]string{"train", "--model", base, "--data", data, "--out", "OUT/run", "--ctx", "32", "--batch", "2", "--grad-accum", "2",
			"--rank", "4", "--targets", "attention", "--threads", "1", "--checkpoint-every", strconv.Itoa(everySteps), "--eval-every", "5"}, more...)
	}
	trained := []string{"run/adapter.gguf", "run/imatrix.gguf"}
	return []killed{
		{"train", train(text, "--steps", "14"), trained, true},
		{"train on data with a cache file", train(large, "--steps", "4", "--val-tokens", "320"), append(trained, tokenCache), true},
		{"export", []string{"export", "--run", run, "--out", "OUT/adapter.gguf", "--rank", "4", "--threads", "1", "--force"}, []string{"adapter.gguf"}, false},
		{"merge", []string{"merge", "--model", base, "--adapter", lora, "--out", "OUT/merged.gguf", "--force"}, []string{"merged.gguf"}, false},
		{"merge in parts", []string{"merge", "--model", base, "--adapter", lora, "--out", "OUT/merged.gguf", "--split-max-size", "1MiB", "--force"}, nil, false},
		{"convert", []string{"convert", "--from", lora, "--to", "peft", "--model", base, "--out", "OUT/peft", "--force"}, []string{"peft"}, false},
	}
}

// TestKills kills commands at random moments: what has its name is whole, byte for byte that of a command that nobody killed,
// a run loses no step before its last checkpoint, and when the command was given again nothing is left over. SEED and KILLS
// in the environment choose other moments, and how many (make test-kill).
func TestKills(t *testing.T) {
	need.Long(t, "kills commands while they work")
	h := newHouse(t)
	seed, n := fromEnvironment(t, "SEED", 1), fromEnvironment(t, "KILLS", kills)
	rng := rand.New(rand.NewPCG(uint64(seed), 0))
	base, text := need.Own(t, "demo/base.gguf"), need.Own(t, "trainer/testdata/reference.txt")
	made := filepath.Join(h.dir, "made")
	h.must("train", "--model", base, "--data", text, "--out", made, "--ctx", "32", "--batch", "1", "--steps", "2", "--rank", "2", "--method", "lora", "--threads", "1")
	lora := filepath.Join(h.dir, "lora.gguf")
	h.must("export", "--run", made, "--out", lora, "--threads", "1")
	jobs := killedJobs(base, text, largeText(t, text), made, lora)
	for i, job := range jobs {
		k := &killing{house: h, killed: job, rng: rng}
		k.reference()
		share := n / len(jobs)
		if i == 0 { // what has most to lose
			share = n - share*(len(jobs)-1)
		}
		for k.kills < share && !t.Failed() {
			k.round()
		}
		t.Logf("%s: %d kills, %d rounds; of them with a result before the end %d; commands that ended before they were killed %d; it takes %v",
			job.name, k.kills, k.rounds, k.finished, k.late, k.takes.Round(time.Millisecond))
	}
}

// largeText writes a text that is large enough for a cache file of its tokens: another one again and again, with numbers.
func largeText(t *testing.T, of string) string {
	const enough = 9 << 20 // bytes
	once, err := os.ReadFile(of)
	if err != nil {
		t.Fatal(err)
	}
	var b bytes.Buffer
	for i := 0; b.Len() < enough; i++ {
		fmt.Fprintf(&b, "%d. %s\n", i, once)
	}
	path := filepath.Join(t.TempDir(), "large.txt")
	if err := os.WriteFile(path, b.Bytes(), 0o666); err != nil {
		t.Fatal(err)
	}
	return path
}

func fromEnvironment(t *testing.T, name string, otherwise int) int {
	text := os.Getenv(name)
	if text == "" {
		return otherwise
	}
	n, err := strconv.Atoi(text)
	if err != nil || n < 1 {
		t.Fatalf("%s: want a number from 1, got %q", name, text)
	}
	return n
}

// house is where commands run: a folder for what they make, and one for their scratch files.
type house struct {
	*testing.T
	dir, temp string
}

func newHouse(t *testing.T) house {
	h := house{t, t.TempDir(), t.TempDir()}
	t.Setenv("TMPDIR", h.temp)
	return h
}

// must runs the program to its end.
func (h house) must(args ...string) {
	h.Helper()
	if out, err := exec.Command("finetune", args...).CombinedOutput(); err != nil {
		h.Fatalf("finetune %s: %v\n%s", strings.Join(args, " "), err, out)
	}
}

// killing is the campaign against one command.
type killing struct {
	house
	killed
	rng                           *rand.Rand
	takes                         time.Duration // the command, undisturbed, about
	want                          map[string]string
	log                           []string
	kills, rounds, finished, late int
}

// reference runs the command undisturbed, twice: what it makes and how long it takes.
func (k *killing) reference() {
	k.Helper()
	for _, name := range []string{"reference", "again"} {
		out := filepath.Join(k.dir, k.name, name)
		k.mkdir(out)
		begin := time.Now()
		k.must(out)
		if took := time.Since(begin); k.takes == 0 || took < k.takes {
			k.takes = took
		}
		got := k.made(out)
		if len(got) == 0 {
			k.Fatalf("%s makes nothing in %q", k.name, out)
		}
		if k.want != nil && !sameFiles(k.want, got) {
			k.Fatalf("%s makes other bytes the second time", k.name)
		}
		k.want = got
		if k.resume {
			k.log = eventsOf(k.house, out)
		}
	}
}

func (k *killing) mkdir(dir string) {
	if err := os.MkdirAll(dir, 0o777); err != nil {
		k.Fatal(err)
	}
}

// command returns the command, which has a folder for caches of its own.
func (k *killing) command(out string) *exec.Cmd {
	cmd := exec.Command("finetune", k.argsFor(out)...)
	cmd.Env = append(os.Environ(), "XDG_CACHE_HOME="+filepath.Join(out, tokenCache))
	return cmd
}

// must runs the command to its end.
func (k *killing) must(out string) {
	k.Helper()
	cmd := k.command(out)
	if text, err := cmd.CombinedOutput(); err != nil {
		k.Fatalf("finetune %s: %v\n%s", strings.Join(cmd.Args[1:], " "), err, text)
	}
}

func (k *killing) argsFor(out string) (args []string) {
	for _, arg := range k.args {
		args = append(args, strings.Replace(arg, "OUT", out, 1))
	}
	if _, err := os.Stat(filepath.Join(out, "run", run.ConfigFile)); k.resume && err == nil {
		args = []string{"train", "--resume", "--out", filepath.Join(out, "run"), "--threads", "1"}
	}
	return args
}

// made are the hashes of the files that the command ends with, by their names: those of its result, or all.
func (k *killing) made(out string) map[string]string {
	files := map[string]string{}
	err := filepath.WalkDir(out, func(path string, e fs.DirEntry, err error) error {
		name, _ := filepath.Rel(out, path)
		isResult := k.result == nil || slices.ContainsFunc(k.result, func(r string) bool { return name == r || strings.HasPrefix(name, r+"/") })
		if err != nil || e.IsDir() || !isResult || isTemporary(name) || isCacheTemporary(name) {
			return err
		}
		data, err := os.ReadFile(path)
		files[name] = fmt.Sprintf("%x", sha256.Sum256(data))
		return err
	})
	if err != nil {
		k.Fatal(err)
	}
	return files
}

// isTemporary reports whether a path leads to a temporary file, or into such a folder.
func isTemporary(path string) bool {
	return slices.ContainsFunc(strings.Split(path, string(filepath.Separator)), atomicfile.IsTemporary)
}

// isCacheTemporary reports whether a path is that of a file of tokens that is not finished, or of its lock.
func isCacheTemporary(path string) bool {
	ext := filepath.Ext(path)
	return ext == ".part" || ext == ".lock"
}

func sameFiles(a, b map[string]string) bool {
	if len(a) != len(b) {
		return false
	}
	for name, hash := range a {
		if b[name] != hash {
			return false
		}
	}
	return true
}

// round kills the command, a run perhaps several times, and lets it come to its end then.
func (k *killing) round() {
	k.Helper()
	k.rounds++
	out := filepath.Join(k.dir, k.name, strconv.Itoa(k.rounds))
	k.mkdir(out)
	if !k.resume && k.rng.IntN(2) == 0 { // what is there is replaced
		k.must(out)
	}
	for again := true; again; again = k.resume && k.rng.IntN(3) > 0 {
		if !k.kill(out) {
			k.late++
			k.takes = k.takes * 3 / 4 // the machine has become faster, or a run was near its end
			break
		}
		k.kills++
		k.takes += k.takes / 16
		k.checkKilled(out)
	}
	if done := k.made(out); k.resume && done["run/adapter.gguf"] != "" { // killed after its last file
		k.finished++
		if text, err := k.command(out).CombinedOutput(); err != nil && !bytes.Contains(text, []byte("the run is done")) {
			k.Errorf("%s after a kill at its end: %v\n%s", k.name, err, text)
		}
	} else {
		k.must(out)
	}
	k.checkDone(out)
	if !k.Failed() {
		os.RemoveAll(out)
	}
}

// kill starts the command and kills it at a random moment. It reports false where it had ended before.
func (k *killing) kill(out string) bool {
	cmd := k.command(out)
	var text bytes.Buffer
	cmd.Stdout, cmd.Stderr = &text, &text
	if err := cmd.Start(); err != nil {
		k.Fatal(err)
	}
	timer := time.AfterFunc(time.Duration(k.rng.Float64()*float64(k.takes)), func() { cmd.Process.Kill() })
	err := cmd.Wait()
	timer.Stop()
	exit := (*exec.ExitError)(nil)
	switch {
	case err == nil:
		return false
	case errors.As(err, &exit) && exit.ExitCode() == -1: // by a signal
		return true
	case strings.Contains(text.String(), "the run is done"):
		return false
	}
	k.Fatalf("%s ends by itself: %v\n%s", k.name, err, text.String())
	return false
}

// checkKilled looks at what a killed command has left: results are whole or not there, and no step before the last checkpoint
// is lost.
func (k *killing) checkKilled(out string) {
	k.Helper()
	for name, hash := range k.made(out) {
		if k.want[name] != hash {
			k.Errorf("%s, killed: %q has its name and other bytes than when nobody kills it", k.name, name)
		}
	}
	if !k.resume {
		return
	}
	steps, err := run.ListCheckpoints(filepath.Join(out, "run"))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		k.Fatal(err)
	}
	newest, logged := 0, 0
	if len(steps) > 0 {
		newest = steps[len(steps)-1]
	}
	for _, event := range eventsOf(k.house, out) {
		fmt.Sscanf(event, "step %d", &logged)
	}
	if due := (logged - 1) / everySteps * everySteps; newest < due { // the line of a step comes before its checkpoint
		k.Errorf("%s, killed after step %d: the newest checkpoint is of step %d, want %d", k.name, logged, newest, due)
	}
}

// checkDone looks at what is there when the command has come to its end after all.
func (k *killing) checkDone(out string) {
	k.Helper()
	if got := k.made(out); !sameFiles(got, k.want) {
		k.Errorf("%s after kills: makes %v, want %v", k.name, got, k.want)
	}
	if k.resume {
		if got := eventsOf(k.house, out); !slices.Equal(got, k.log) {
			k.Errorf("%s after kills: log %q, want %q", k.name, got, k.log)
		}
	}
	for _, dir := range []string{out, k.temp} {
		filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
			if path != dir && (isTemporary(path) || isCacheTemporary(path) || dir == k.temp) {
				k.Errorf("%s after kills: %q is left over", k.name, path)
				return filepath.SkipAll
			}
			return err
		})
	}
}

var losses = regexp.MustCompile(`"loss":[^,]*`)

// eventsOf are the steps and validations that a run's log tells of, with their losses.
func eventsOf(h house, out string) (events []string) {
	text, err := os.ReadFile(filepath.Join(out, "run", run.LogFile))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		h.Fatal(err)
	}
	for line := range bytes.Lines(text) {
		var e struct {
			Event string
			Step  int
		}
		if json.Unmarshal(line, &e) == nil && (e.Event == "step" || e.Event == "eval") {
			events = append(events, fmt.Sprintf("%s %d %s", e.Event, e.Step, losses.Find(line)))
		}
	}
	return events
}
