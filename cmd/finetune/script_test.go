package main

import (
	"encoding/json"
	"math"
	"os"
	"path/filepath"
	"strconv"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"
)

func TestMain(m *testing.M) {
	if os.Getenv(waitVariable) != "" {
		waitForInterrupts()
	}
	testscript.Main(m, map[string]func(){"finetune": main})
}

// TestScripts runs the program over testdata/script, a file for each command.
// $DATA is the folder of real models and texts; a script that needs it begins
// with "[!data] skip". $SCRIPTS is the repository's scripts/.
func TestScripts(t *testing.T) {
	data, err := filepath.Abs("../../../shared/data")
	if err != nil {
		t.Fatal(err)
	}
	scripts, err := filepath.Abs("../../scripts")
	if err != nil {
		t.Fatal(err)
	}
	testscript.Run(t, testscript.Params{
		Dir:                 "testdata/script",
		RequireExplicitExec: true,
		RequireUniqueNames:  true,
		Setup: func(env *testscript.Env) error {
			env.Setenv("DATA", data)
			env.Setenv("SCRIPTS", scripts)
			return nil
		},
		Condition: func(cond string) (bool, error) {
			if cond != "data" {
				return false, os.ErrInvalid
			}
			_, err := os.Stat(data)
			return err == nil, nil
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"exits":    exits,
			"near":     near,
			"truncate": truncate,
		},
	})
}

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
