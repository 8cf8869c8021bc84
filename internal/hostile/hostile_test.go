//go:build unix && cgo

package hostile

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"finetune/internal/need"
	"finetune/run"
)

// Flags of go test behind -args: make test-hostile sets them.
var (
	seed  = flag.Uint64("seed", 1, "seed of the damage")
	runs  = flag.Int("runs", 120, "number of runs")
	from  = flag.Int("from", 0, "first run, to repeat one")
	only  = flag.String("only", "", "the scenarios whose names begin like this")
	keep  = flag.String("keep", "", "folder for the files of runs that end wrongly")
	built = flag.String("program", "", "program to run instead of building it")
	sweep = flag.Bool("sweep", false, "set each number of each header to each of some values, too")
	show  = flag.Bool("show", false, "say how each run ended")
	asan  = flag.Bool("sanitized", false, "native code is under AddressSanitizer, which takes memory of its own: no bound on it")
	side  = flag.Int("parallel-runs", 2, "runs at a time")
)

// Bounds of a run.
const (
	mostCPU    = 15 * time.Second // of the processor; the files take tenths
	mostTime   = 5 * time.Minute  // by the clock, on a machine that has other things to do
	mostMemory = 400 << 20        // resident; the largest sound run takes a quarter
	mostSpace  = 12 << 20         // KiB of addresses, for the machine's sake
)

// bounded returns the shell's words that bound the addresses of a program.
func bounded() string {
	if *asan {
		return "ulimit -c 0; "
	}
	return fmt.Sprintf("ulimit -v %d -c 0 2>/dev/null; ", mostSpace)
}

// TestHostile damages files, a run after another, and lets the program read them: it may refuse them or not notice, but it ends
// with a documented code, in time, in little memory, without a crash, and leaves nothing behind that looks finished.
func TestHostile(t *testing.T) {
	need.Long(t, "hundreds of runs of the program")
	c := newCorpus(t, programOf(t))
	if *from == 0 {
		t.Run("sound", func(t *testing.T) { takesSoundFiles(t, c) })
	}
	c.each(t, *from, *runs, func(i int) *oneRun { return newRun(c, i) })
}

// each makes and executes n runs, several at a time, and reports what is wrong with them.
func (c *corpus) each(t *testing.T, from, n int, makeRun func(i int) *oneRun) {
	count, begin := tally{codes: map[int]int{}}, time.Now()
	numbers := make(chan int)
	var all sync.WaitGroup
	for range *side {
		all.Go(func() {
			for i := range numbers {
				r := makeRun(i)
				count.add(r.execute())
				if *show {
					t.Logf("run %d: %s: %s: %.300s", i, r.what, r.command, r.stderr.String())
				}
				if len(r.wrong) > 0 {
					t.Errorf("run %d (-args -seed %d -from %d -runs 1): %s, damaged: %s\n%s\n  %s\n%.1200s", i, *seed, i, r.scenario.name, r.what, r.command, strings.Join(r.wrong, "\n  "), r.stderr.String())
					r.keep()
				}
				os.RemoveAll(r.dir)
			}
		})
	}
	for i := range n {
		numbers <- from + i
	}
	close(numbers)
	all.Wait()
	t.Logf("%d runs over models of %d kinds in %.0f s, by exit code: %v; most memory %d MiB, most processor time %.1f s", n, len(c.models), time.Since(begin).Seconds(), count.codes, count.memory>>20, count.cpu.Seconds())
}

// programOf returns the program to run.
func programOf(t *testing.T) string {
	if *built != "" {
		return *built
	}
	program := filepath.Join(t.TempDir(), "finetune")
	if out, err := exec.Command("go", "build", "-o", program, "finetune/cmd/finetune").CombinedOutput(); err != nil {
		t.Fatalf("go build: %v\n%s", err, out)
	}
	return program
}

// takesSoundFiles holds that every command of every scenario succeeds on files that nothing was done to, so that what fails
// later fails for the damage.
func takesSoundFiles(t *testing.T, c *corpus) {
	for _, s := range scenarios {
		for _, command := range s.commands {
			r := &oneRun{c: c, scenario: s, command: command}
			r.gather("base.gguf")
			code, _, _ := r.execute()
			if code != 0 || len(r.wrong) > 0 {
				t.Errorf("%s: %s: exit code %d, %q\n%s", s.name, command, code, r.wrong, r.stderr.String())
			}
			os.RemoveAll(r.dir)
		}
	}
}

// tally sums up what runs were like.
type tally struct {
	sync.Mutex
	codes  map[int]int
	memory int64
	cpu    time.Duration
}

func (t *tally) add(code int, memory int64, cpu time.Duration) {
	t.Lock()
	defer t.Unlock()
	t.codes[code]++
	t.memory, t.cpu = max(t.memory, memory), max(t.cpu, cpu)
}

// oneRun is a run of the program over a damaged file.
type oneRun struct {
	c        *corpus
	number   int
	dir      string
	scenario scenario
	command  string
	what     string // was damaged
	before   []string
	stderr   bytes.Buffer
	wrong    []string
}

// newRun makes the folder of a run. All choices follow from the seed and the number.
func newRun(c *corpus, number int) *oneRun {
	random := rand.New(rand.NewPCG(*seed, uint64(number)))
	r := &oneRun{c: c, number: number, scenario: pickScenario(random)}
	r.gather(pick(random, c.models))
	r.command = pick(random, r.scenario.commands)
	r.damage(random)
	return r
}

// gather makes the run's folder with copies of what its scenario needs, and source in the place of the model.
func (r *oneRun) gather(source string) {
	var err error
	if r.dir, err = os.MkdirTemp(r.c.dir, "damaged-"); err != nil {
		panic(err)
	}
	for _, pattern := range r.scenario.files {
		if pattern == damagedName {
			r.copy(source, damagedName)
			continue
		}
		for _, name := range r.c.list(pattern) {
			r.copy(name, name)
		}
	}
	r.before = files(r.dir)
}

func pickScenario(r *rand.Rand) scenario {
	var all []scenario
	for _, s := range scenarios {
		if strings.HasPrefix(s.name, *only) {
			all = append(all, slices.Repeat([]scenario{s}, s.weight)...)
		}
	}
	return pick(r, all)
}

// list returns the files of the corpus by a pattern, in a folder all of them.
func (c *corpus) list(pattern string) []string {
	var found []string
	for _, name := range files(c.dir) {
		if matches(pattern, name) || strings.HasPrefix(name, pattern+"/") {
			found = append(found, name)
		}
	}
	return found
}

// copy gives the run a copy of a file of the corpus.
func (r *oneRun) copy(name, to string) {
	path := filepath.Join(r.dir, filepath.FromSlash(to))
	os.MkdirAll(filepath.Dir(path), 0o777)
	b, err := os.ReadFile(filepath.Join(r.c.dir, filepath.FromSlash(name)))
	if err == nil {
		err = os.WriteFile(path, b, 0o666)
	}
	if err != nil {
		panic(err)
	}
}

// damage changes one of the scenario's victims.
func (r *oneRun) damage(random *rand.Rand) {
	var victims []string
	for _, name := range files(r.dir) {
		if matches(r.scenario.victim, name) {
			victims = append(victims, name)
		}
	}
	name := pick(random, victims)
	path := filepath.Join(r.dir, filepath.FromSlash(name))
	b, err := os.ReadFile(path)
	if err != nil {
		panic(err)
	}
	b, r.what = r.scenario.mutate(random, b)
	r.what = name + ": " + r.what
	if err := os.WriteFile(path, b, 0o666); err != nil {
		panic(err)
	}
}

// execute runs the command, and notes what is wrong with how it ends.
func (r *oneRun) execute() (code int, memory int64, cpu time.Duration) {
	ctx, cancel := context.WithTimeout(r.c.t.Context(), mostTime)
	defer cancel()
	cmd := exec.CommandContext(ctx, "sh", "-c", fmt.Sprintf("%sexec %q %s", bounded(), r.c.program, r.command))
	cmd.Dir, cmd.Stderr = r.dir, &r.stderr
	cmd.Env = append(os.Environ(), "HOME="+r.dir+"/home", "XDG_CACHE_HOME="+r.dir+"/home")
	stdin, err := os.Open(filepath.Join(r.dir, "chat.txt"))
	if err == nil {
		defer stdin.Close()
		cmd.Stdin = stdin
	}
	cmd.WaitDelay = 5 * time.Second
	err = cmd.Run()
	if exit := (*exec.ExitError)(nil); err != nil && !errors.As(err, &exit) && !errors.Is(err, exec.ErrWaitDelay) {
		r.c.t.Errorf("run %d: %v", r.number, err)
	}
	state := cmd.ProcessState
	usage := state.SysUsage().(*syscall.Rusage)
	memory = usage.Maxrss
	if runtime.GOOS == "linux" {
		memory <<= 10 // KiB there
	}
	cpu = state.UserTime() + state.SystemTime()
	r.judge(state, ctx.Err() != nil, memory, cpu)
	return state.ExitCode(), memory, cpu
}

func (r *oneRun) judge(state *os.ProcessState, late bool, memory int64, cpu time.Duration) {
	wrong := func(format string, args ...any) { r.wrong = append(r.wrong, fmt.Sprintf(format, args...)) }
	code := state.ExitCode()
	switch {
	case late:
		wrong("hangs")
	case code == 3:
		wrong("crashes")
	case code < 0 || code > 3:
		wrong("ends with %v", state)
	}
	if cpu > mostCPU {
		wrong("takes %.1f s of the processor", cpu.Seconds())
	}
	if memory > mostMemory && !*asan {
		wrong("takes %d MiB", memory>>20)
	}
	lines := strings.Split(strings.TrimSuffix(r.stderr.String(), "\n"), "\n")
	for _, line := range lines {
		if !strings.HasPrefix(line, "finetune: ") && (line != "" || len(lines) > 1) {
			wrong("says %.100q on standard error", line)
			break
		}
	}
	if code > 0 && r.stderr.Len() == 0 && !strings.HasPrefix(r.command, "data check") {
		wrong("fails without a word")
	}
	for _, name := range files(r.dir) {
		if !slices.Contains(r.before, name) && !strings.HasPrefix(name, "home/") && !r.mayLeave(name, code) {
			wrong("leaves %q behind, with code %d", name, code)
		}
	}
}

// mayLeave reports whether a run that ends with a code may leave a new file of a name: what it was asked for if it is done, and
// of a training that failed what it goes on from, but no result.
func (r *oneRun) mayLeave(name string, code int) bool {
	if strings.Contains(name, ".tmp") {
		return false
	}
	if code == 0 {
		noted := strings.HasPrefix(r.command, "export") && filepath.Base(name) == run.ExportsFile // in the run that it exports
		return noted || strings.HasPrefix(name, "out") || strings.HasPrefix(name, "run-half/")
	}
	base := filepath.Base(name)
	return (strings.HasPrefix(name, "out/") || strings.HasPrefix(name, "run-half/")) && strings.HasPrefix(r.command, "train") &&
		(base == "config.yaml" || base == "log.jsonl" || strings.HasPrefix(base, "checkpoint-"))
}

// keep copies the files of a run to where they can be looked at.
func (r *oneRun) keep() {
	if *keep == "" {
		return
	}
	to := filepath.Join(*keep, fmt.Sprintf("%d-%d", *seed, r.number))
	if err := os.CopyFS(to, os.DirFS(r.dir)); err != nil && !errors.Is(err, fs.ErrExist) {
		r.c.t.Log(err)
	}
	os.WriteFile(filepath.Join(to, "command"), []byte(r.command+"\n"+r.what+"\n"+strings.Join(r.wrong, "\n")+"\n"+r.stderr.String()), 0o666)
}

// files lists all files below a folder, but the folders of runs.
func files(dir string) []string {
	var found []string
	filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
		if err != nil {
			return nil
		}
		if e.IsDir() {
			if strings.HasPrefix(e.Name(), "damaged-") && path != dir {
				return filepath.SkipDir
			}
			return nil
		}
		rel, _ := filepath.Rel(dir, path)
		found = append(found, filepath.ToSlash(rel))
		return nil
	})
	return found
}
