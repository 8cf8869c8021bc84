package main

import (
	"encoding/binary"
	"encoding/json"
	"fmt"
	"math"
	"os"
	"strconv"
	"strings"
	"testing"

	"finetune/gguf"
	"finetune/internal/need"
	"finetune/internal/testmodel"

	"github.com/rogpeppe/go-internal/testscript"
)

func TestMain(m *testing.M) {
	if os.Getenv(waitVariable) != "" {
		inWorker()
		waitForInterrupts()
	}
	testscript.Main(m, map[string]func(){"finetune": main, "crash": crash})
}

// TestScripts runs the program over testdata/script, a file for each command. $BASE is the demo's model, $TEXT a text of
// 500 tokens, $ADAPTERS the folder of adapters that PEFT and mlx-lm saved, $SCRIPTS
// the repository's scripts/.
func TestScripts(t *testing.T) {
	testscript.RunT(scriptT{t}, testscript.Params{
		Dir:                 "testdata/script",
		RequireExplicitExec: true,
		RequireUniqueNames:  true,
		Setup: func(env *testscript.Env) error {
			for name, file := range map[string]string{"BASE": "demo/base.gguf", "TEXT": "trainer/testdata/reference.txt", "ADAPTERS": "convert/testdata", "SCRIPTS": "scripts"} {
				env.Setenv(name, need.Own(t, file))
			}
			return nil
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"encoder":    encoder,
			"exits":      exits,
			"hub":        hub,
			"ollama":     intoOllama,
			"hardlink":   hardlink,
			"loud":       loud,
			"lines":      sameLines,
			"near":       near,
			"only":       only,
			"retype":     retype,
			"setkey":     setKey,
			"truncate":   truncate,
			"vocabulary": vocabulary,
			"without":    without,
		},
	})
}

// scriptT is a test in which a script skips as all tests do: because it is long, or because a program is missing, which
// it says as "no PROGRAM".
type scriptT struct{ *testing.T }

func (t scriptT) Run(name string, run func(testscript.T)) {
	t.T.Run(name, func(t *testing.T) { run(scriptT{t}) })
}

func (t scriptT) Skip(why ...any) {
	t.Helper()
	kind, text := need.Time, fmt.Sprint(why...)
	if strings.HasPrefix(text, "no ") {
		kind = need.App
	}
	need.Skip(t.T, kind, text)
}

func (t scriptT) Verbose() bool { return testing.Verbose() }

// exits runs a command and checks its exit code: exits CODE PROGRAM ARGS…
func exits(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: exits CODE PROGRAM ARGS...")
	}
	got := "0"
	if err := ts.Exec(args[1], args[2:]...); err != nil {
		code, ok := err.(interface{ ExitCode() int })
		if !ok {
			ts.Fatalf("%v: %v", args[1:], err)
		}
		got = strconv.Itoa(code.ExitCode())
	}
	if got != args[0] {
		ts.Fatalf("%v exits with %s, want %s", args[1:], got, args[0])
	}
}

// encoder writes a tiny BERT: encoder FILE
func encoder(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: encoder FILE")
	}
	ts.Check(testmodel.Encoders()[0].Write(ts.MkAbs(args[0])))
}

// hardlink gives a file a second name: hardlink NAME FILE
func hardlink(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: hardlink NAME FILE")
	}
	ts.Check(os.Link(ts.MkAbs(args[1]), ts.MkAbs(args[0])))
}

// truncate writes the first bytes of a file to another: truncate FROM TO BYTES
func truncate(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 3 {
		ts.Fatalf("usage: truncate FROM TO BYTES")
	}
	data, err := os.ReadFile(ts.MkAbs(args[0]))
	ts.Check(err)
	n, err := strconv.Atoi(args[2])
	ts.Check(err)
	ts.Check(os.WriteFile(ts.MkAbs(args[1]), data[:min(n, len(data))], 0o666))
}

// near checks that two numbers of a JSON object differ by no more than a bound: near FILE KEY KEY BOUND
func near(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 4 {
		ts.Fatalf("usage: near FILE KEY KEY BOUND")
	}
	var object map[string]any
	ts.Check(json.Unmarshal([]byte(ts.ReadFile(args[0])), &object))
	a, ok := object[args[1]].(float64)
	b, also := object[args[2]].(float64)
	bound, err := strconv.ParseFloat(args[3], 64)
	ts.Check(err)
	if !ok || !also || !(math.Abs(a-b) <= bound) {
		ts.Fatalf("%s is %v and %s %v, want numbers within %v", args[1], object[args[1]], args[2], object[args[2]], bound)
	}
}

// retype writes a model with its matrices in another type: retype TYPE FROM TO
func retype(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 3 {
		ts.Fatalf("usage: retype TYPE FROM TO")
	}
	typ, err := gguf.ParseType(args[0])
	ts.Check(err)
	ts.Check(testmodel.Retype(ts.MkAbs(args[1]), ts.MkAbs(args[2]), typ))
}

// vocabulary writes a model without its tensors: vocabulary FROM TO
func vocabulary(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: vocabulary FROM TO")
	}
	rewrite(ts, args[0], args[1], func(b *gguf.Builder, f *gguf.File) { b.SetAll(f.KVs()) })
}

// without writes a model that lacks a key: without KEY FROM TO
func without(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 3 {
		ts.Fatalf("usage: without KEY FROM TO")
	}
	rewrite(ts, args[1], args[2], func(b *gguf.Builder, f *gguf.File) {
		for _, kv := range f.KVs() {
			if kv.Key != args[0] {
				b.Set(kv.Key, kv.Value)
			}
		}
		for _, t := range f.Tensors() {
			b.CopyTensor(f, t.Name)
		}
	})
}

// loud writes a model whose last norm has numbers, but so large ones that its logits are none: loud FROM TO
func loud(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: loud FROM TO")
	}
	rewrite(ts, args[0], args[1], func(b *gguf.Builder, f *gguf.File) {
		b.SetAll(f.KVs())
		for _, t := range f.Tensors() {
			if t.Name != "output_norm.weight" {
				b.CopyTensor(f, t.Name)
				continue
			}
			var data []byte
			for range t.Elements() {
				data = binary.LittleEndian.AppendUint32(data, math.Float32bits(math.MaxFloat32))
			}
			b.AddTensor(t.Name, t.Type, t.Shape, data)
		}
	})
}

// setKey writes a model with another value of a key, a float: setkey KEY NUMBER FROM TO
func setKey(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 4 {
		ts.Fatalf("usage: setkey KEY NUMBER FROM TO")
	}
	x, err := strconv.ParseFloat(args[1], 32)
	ts.Check(err)
	rewrite(ts, args[2], args[3], func(b *gguf.Builder, f *gguf.File) {
		b.SetAll(f.KVs())
		b.Set(args[0], float32(x))
		for _, t := range f.Tensors() {
			b.CopyTensor(f, t.Name)
		}
	})
}

// crash ends as the program would by a panic on a goroutine of its own: crash COMMAND
func crash() {
	inWorker()
	go panic("nobody foresaw this")
	select {}
}

// inWorker returns in the worker, or where the program needs none, as main goes on there.
func inWorker() {
	dieBySignal()
	becomeWorker()
	if code, ok := supervise(os.Args[1:]); ok {
		os.Exit(code)
	}
}

// rewrite writes a model that fill makes of another.
func rewrite(ts *testscript.TestScript, from, to string, fill func(*gguf.Builder, *gguf.File)) {
	f, err := gguf.Open(ts.MkAbs(from))
	ts.Check(err)
	defer f.Close()
	b := gguf.NewBuilder()
	fill(b, f)
	ts.Check(b.WriteFile(ts.MkAbs(to)))
}
