//go:build unix && cgo

package hostile

import (
	"bufio"
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"finetune/device"
	"finetune/eval"
	"finetune/internal/need"
	"finetune/internal/testmodel"
	"finetune/internal/testrun"
	"finetune/model"
	"finetune/model/native"
	"finetune/run"
	"finetune/trainer"
)

var batch = flag.Int("batch", 300, "models to load in one process")

// batchVariable makes this test's binary the process that loads models, until one of them ends it.
const batchVariable = "FINETUNE_HOSTILE_BATCH"

func TestMain(m *testing.M) {
	flag.Parse()
	if dir := os.Getenv(batchVariable); dir != "" {
		loadAll(dir)
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// TestModelsInOneProcess loads damaged models, one after the other in a process of their own, which is many times as fast as a
// program for each. A process that a model ends is started again with the next. It asks more than TestHostile, since the program
// would make a line of such an end: that the check of the header, and what comes behind it, refuses the model.
func TestModelsInOneProcess(t *testing.T) {
	need.Long(t, "hundreds of models")
	loadInProcesses(t, newModels(t), *from, *batch)
}

// newModels makes a corpus of models and a text alone.
func newModels(t *testing.T) *corpus {
	c := &corpus{t: t, dir: t.TempDir()}
	c.makeModels()
	if err := os.WriteFile(filepath.Join(c.dir, "train.txt"), []byte(corpusTexts()["train.txt"]), 0o666); err != nil {
		t.Fatal(err)
	}
	return c
}

// loadInProcesses loads n models from a number on, by several processes at a time.
func loadInProcesses(t *testing.T, c *corpus, from, n int, flags ...string) {
	var all sync.WaitGroup
	share := (n + *side - 1) / *side
	for i := range *side {
		all.Go(func() {
			begin := from + i*share
			end := min(begin+share, from+n)
			for next := begin; next < end; {
				next = loadSome(t, c, next, end, flags)
			}
		})
	}
	all.Wait()
}

// TestSoundModelsAreTaken holds that the models of the corpus speak where nothing was done to them.
func TestSoundModelsAreTaken(t *testing.T) {
	need.Long(t, "dozens of models")
	c := newModels(t)
	for _, name := range c.models {
		if err := speak(filepath.Join(c.dir, name)); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// loadSome starts a process that loads the models of the numbers from to to, and returns the number behind the one that ended
// it, which is reported.
func loadSome(t *testing.T, c *corpus, from, to int, flags []string) (next int) {
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("sh", append([]string{"-c", bounded() + `exec "$0" "$@"`, self, "-sanitized=" + strconv.FormatBool(*asan),
		"-seed", strconv.FormatUint(*seed, 10), "-from", strconv.Itoa(from), "-batch", strconv.Itoa(to - from)}, flags...)...)
	cmd.Env = append(os.Environ(), batchVariable+"="+c.dir, "GGML_NO_BACKTRACE=1")
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Error(err)
		return to
	}
	late := time.AfterFunc(mostTime, func() { cmd.Process.Signal(syscall.SIGQUIT) })
	last := ""
	lines := bufio.NewScanner(stdout)
	for lines.Scan() {
		last = lines.Text()
		late.Reset(mostTime)
	}
	if err := lines.Err(); err != nil { // or it would wait for a reader
		t.Error(err)
		cmd.Process.Kill()
	}
	err = cmd.Wait()
	late.Stop()
	if err == nil {
		return to
	}
	number, what, _ := strings.Cut(last, " ")
	n, bad := strconv.Atoi(number)
	if bad != nil {
		t.Errorf("%v before the first model:\n%.2000s", err, stderr.String())
		return to
	}
	t.Errorf("model %d (-args -seed %d -from %d -batch 1 %s), %s: %v\n%.1500s", n, *seed, n, strings.Join(flags, " "), what, err, stderr.String())
	if *keep != "" {
		os.MkdirAll(*keep, 0o777)
		if b, err := os.ReadFile(filepath.Join(c.dir, "last-"+strconv.Itoa(cmd.Process.Pid)+".gguf")); err == nil {
			os.WriteFile(filepath.Join(*keep, fmt.Sprintf("model-%d-%d.gguf", *seed, n)), b, 0o666)
		}
	}
	return n + 1
}

// methods are what models are trained by.
var methods = append(slices.Clone(testrun.Methods), run.MethodFull)

// damagedModel is a model of the corpus after a few changes.
type damagedModel struct {
	name, what string
	damaged    []byte
}

func modelOf(c *corpus, number int) damagedModel {
	random := rand.New(rand.NewPCG(*seed+1<<32, uint64(number)))
	name := pick(random, c.models)
	b, err := os.ReadFile(filepath.Join(c.dir, name))
	if err != nil {
		panic(err)
	}
	b, what := MutateModel(random, b)
	return damagedModel{name, what, b}
}

// loadAll is the process that loads models. It tells which is next.
func loadAll(dir string) {
	c := &corpus{dir: dir}
	for _, name := range files(dir) {
		if strings.HasPrefix(name, "models/") {
			c.models = append(c.models, name)
		}
	}
	work, err := os.MkdirTemp(dir, "damaged-")
	if err != nil {
		panic(err)
	}
	defer os.RemoveAll(work)
	var sweeping []swept
	if *stride > 0 {
		sweeping = sweepOf(c)
	}
	path := filepath.Join(dir, fmt.Sprintf("last-%d.gguf", os.Getpid())) // stays where it ends the process
	for i := *from; i < *from+*batch; i++ {
		var m damagedModel
		if *stride > 0 {
			s := sweeping[i**stride]
			m = damagedModel{s.model, s.what, s.make()}
		} else {
			m = modelOf(c, i)
		}
		fmt.Printf("%d %s: %.1000q\n", i, m.name, m.what) // names may have 64 KiB
		if err := os.WriteFile(path, m.damaged, 0o666); err != nil {
			panic(err)
		}
		err := speak(path)
		if err == nil && i%3 == 0 {
			err = learn(path, filepath.Join(dir, "train.txt"), filepath.Join(work, "run"), methods[i/3%len(methods)])
			os.RemoveAll(filepath.Join(work, "run"))
		}
		if *show {
			fmt.Printf("%d %s: %.1000q: %.200v\n", i, m.name, m.what, err)
		}
		if peak := peakMemory(); peak > mostMemory && !*asan {
			panic(fmt.Sprintf("memory: %d MiB were resident", peak>>20))
		}
	}
}

func peakMemory() int64 {
	var usage syscall.Rusage
	syscall.Getrusage(syscall.RUSAGE_SELF, &usage)
	if runtime.GOOS == "linux" {
		return usage.Maxrss << 10
	}
	return usage.Maxrss
}

// speak loads a model and lets it continue a text.
func speak(path string) (err error) {
	base, err := model.Open(path)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, base.Close()) }()
	m, err := native.Load(base, device.Placement{})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, m.Close()) }()
	ctx := 32
	if n := m.NCtxTrain(); n > 0 {
		ctx = min(ctx, n)
	}
	e, err := eval.NewEvaluator(m, ctx, 1)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, e.Close()) }()
	return e.Generate(context.Background(), "once upon a time", eval.Sampling{Tokens: 3, Temp: 1, TopP: 0.9, TopK: 20, Seed: 1}, func(string) {})
}

// learn trains for a step.
func learn(model, data, out, method string) error {
	c := run.DefaultsOf(method)
	c.Method, c.Model, c.Data, c.Out = method, model, data, out
	c.Ctx, c.Batch, c.Steps, c.Threads = 16, 1, 1, 1
	if method != run.MethodFull {
		c.Rank = 2
	}
	if err := c.Validate(); err != nil {
		return err
	}
	_, err := trainer.Train(context.Background(), c, false, func(trainer.Event) {})
	return err
}

// TestLoopsHaveRoom trains, in a short context, models whose blocks run as often as the check of the header lets them: llama.cpp
// asserts where a graph has more operations than it made room for.
func TestLoopsHaveRoom(t *testing.T) {
	c := newModels(t)
	number := func(n uint32) []byte { return binary.LittleEndian.AppendUint32(nil, n) }
	for name, keys := range map[string]map[string][]byte{
		"nanbeige": {"nanbeige.num_loops": number(4)},
		"hrm_text": {"hrm_text.hrm.h_cycles": number(3), "hrm_text.hrm.l_cycles": number(3), "hrm_text.block_count": number(12)},
	} {
		b, err := os.ReadFile(filepath.Join(c.dir, "models", name+".gguf"))
		if err != nil {
			t.Fatal(err)
		}
		f := parse(b)
		for key, value := range keys {
			f.key(key).value = value
		}
		path := filepath.Join(c.dir, name+".gguf")
		if err := os.WriteFile(path, f.encode(), 0o666); err != nil {
			t.Fatal(err)
		}
		for _, method := range testrun.Methods {
			if err := learn(path, filepath.Join(c.dir, "train.txt"), filepath.Join(t.TempDir(), "run"), method); err != nil {
				t.Errorf("%s, %s: %v", name, method, err)
			}
		}
	}
}

// TestLongRunsAreTokenized lets vocabularies of several kinds split a text without a space, for which std::regex would need more
// than the stack of a thread.
func TestLongRunsAreTokenized(t *testing.T) {
	plain := testmodel.Path(t, testmodel.Spec{Arch: "qwen2", Layers: 1, Embd: 32})
	b, err := os.ReadFile(plain)
	if err != nil {
		t.Fatal(err)
	}
	for _, pre := range []string{"afmoe", "bloom", "deepseek-llm", "default"} {
		f := parse(b)
		f.key("tokenizer.ggml.pre").value = text(pre)
		path := filepath.Join(t.TempDir(), "model.gguf")
		if err := os.WriteFile(path, f.encode(), 0o666); err != nil {
			t.Fatal(err)
		}
		m, err := native.Open(path)
		if err != nil {
			t.Fatal(err)
		}
		for _, one := range []string{"a", "中", " ", "!"} {
			want := strings.Repeat(one, 60000)
			tokens, err := m.Vocab().Tokenize(want, false, false)
			if err != nil {
				t.Fatal(err)
			}
			if got := m.Vocab().Detokenize(tokens, false, false); got != want {
				t.Errorf("%s: %d times %q became %d bytes: %.40q", pre, 60000, one, len(got), got)
			}
		}
		if err := m.Close(); err != nil {
			t.Error(err)
		}
	}
}

// TestTokensAreOfTheVocabulary lets a vocabulary without an unknown token read what it has no token for: llama.cpp's own answer
// is -1, for which the embeddings have no row.
func TestTokensAreOfTheVocabulary(t *testing.T) {
	b, err := os.ReadFile(testmodel.Path(t, testmodel.Spec{Arch: "qwen2", Layers: 1, Embd: 32}))
	if err != nil {
		t.Fatal(err)
	}
	f := parse(b)
	f.key("tokenizer.ggml.model").value = text("rwkv")
	path := filepath.Join(t.TempDir(), "model.gguf")
	if err := os.WriteFile(path, f.encode(), 0o666); err != nil {
		t.Fatal(err)
	}
	m, err := native.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	tokens, err := m.Vocab().Tokenize("中 \x01", false, false)
	if err == nil || !strings.Contains(err.Error(), "no token for a part of the text") {
		t.Errorf("Tokenize = %v, %v, want an error", tokens, err)
	}
}
