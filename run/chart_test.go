package run

import (
	"encoding/binary"
	"encoding/json"
	"fmt"
	"hash/crc32"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"finetune/internal/need"

	"google.golang.org/protobuf/encoding/protowire"
)

// point is a number that was read from a file of events.
type point struct {
	Tag   string
	Step  int
	Value float32
	Time  float64
}

// chartedRun is a directory whose log was cut and gone on with, and its numbers.
func chartedRun(t *testing.T) (dir string, want []point) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "run")
	at := time.Date(2026, 11, 29, 9, 0, 0, 250e6, time.UTC)
	log := func(d *Dir, kind string, step int, more map[string]any) {
		t.Helper()
		more["event"], more["step"], more["time"] = kind, step, at.Add(time.Duration(step)*time.Second)
		if err := d.Log(more); err != nil {
			t.Fatal(err)
		}
	}
	d, err := Create(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := validConfig().Save(d.Path(ConfigFile)); err != nil {
		t.Fatal(err)
	}
	if err := d.Chart(); err != nil {
		t.Fatal(err)
	}
	log(d, "start", 0, map[string]any{"data": []string{"x"}, "plan": map[string]any{"weights": 3}})
	log(d, "eval", 0, map[string]any{"loss": 5.25})
	for step := 1; step <= 3; step++ {
		log(d, "step", step, map[string]any{"loss": 5 - float64(step)/4, "lr": 1e-3, "grad_norm": 0.5, "tokens_per_second": 100.0})
	}
	if err := d.Close(); err != nil {
		t.Fatal(err)
	}
	if d, err = Open(path); err != nil { // resumed after step 2
		t.Fatal(err)
	}
	if err := d.TruncateLog(2); err != nil {
		t.Fatal(err)
	}
	if err := d.Chart(); err != nil {
		t.Fatal(err)
	}
	log(d, "step", 3, map[string]any{"loss": nil, "lr": 2e-3, "grad_norm": 0.75, "tokens_per_second": 90.0})
	log(d, "eval", 3, map[string]any{"loss": 4.125})
	log(d, "done", 0, map[string]any{"steps": 3})
	if err := d.Close(); err != nil {
		t.Fatal(err)
	}
	second := func(step int) float64 { return float64(at.UnixMilli())/1e3 + float64(step) }
	want = []point{{"loss/validation", 0, 5.25, second(0)}}
	for step := 1; step <= 2; step++ {
		want = append(want, point{"loss/train", step, 5 - float32(step)/4, second(step)}, point{"learning_rate", step, 1e-3, second(step)},
			point{"gradient_norm", step, 0.5, second(step)}, point{"tokens_per_second", step, 100, second(step)})
	}
	return path, append(want, point{"learning_rate", 3, 2e-3, second(3)}, point{"gradient_norm", 3, 0.75, second(3)},
		point{"tokens_per_second", 3, 90, second(3)}, point{"loss/validation", 3, 4.125, second(3)})
}

func TestChart(t *testing.T) {
	t.Parallel()
	dir, want := chartedRun(t)
	if got := readEvents(t, filepath.Join(dir, EventsFile)); !reflect.DeepEqual(got, want) {
		t.Errorf("events %v, want %v", got, want)
	}
}

// TensorBoard's own reader finds the same numbers, where it is: pip install tensorboard, PYTHON names the interpreter.
func TestTensorBoardReadsTheChart(t *testing.T) {
	t.Parallel()
	python := os.Getenv("PYTHON")
	if python == "" {
		python = "python3"
	}
	if err := exec.Command(python, "-c", "import tensorboard").Run(); err != nil {
		need.Skip(t, need.App, "no tensorboard in python3")
	}
	dir, want := chartedRun(t)
	const program = `
import json, sys
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
events = EventAccumulator(sys.argv[1], size_guidance={"scalars": 0}).Reload()
print(json.dumps([{"Tag": tag, "Step": e.step, "Value": e.value, "Time": e.wall_time} for tag in events.Tags()["scalars"] for e in events.Scalars(tag)]))`
	out, err := exec.Command(python, "-c", program, dir).Output()
	if err != nil {
		t.Fatalf("%v: %s", err, err.(*exec.ExitError).Stderr)
	}
	var got []point
	if err := json.Unmarshal(out, &got); err != nil {
		t.Fatal(err)
	}
	bag := func(all []point) map[string]bool {
		m := map[string]bool{}
		for _, p := range all {
			m[fmt.Sprint(p)] = true
		}
		return m
	}
	if len(got) != len(want) || !reflect.DeepEqual(bag(got), bag(want)) {
		t.Errorf("TensorBoard reads %v, want %v", got, want)
	}
}

// readEvents reads a file by the formats' own words, and checks every checksum.
func readEvents(t *testing.T, path string) (all []point) {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	check := func(part []byte, sum uint32) {
		t.Helper()
		crc := crc32.Checksum(part, crc32.MakeTable(crc32.Castagnoli))
		if want := (crc>>15 | crc<<17) + 0xa282ead8; sum != want {
			t.Fatalf("checksum %x, want %x", sum, want)
		}
	}
	version := ""
	for len(b) > 0 {
		n := binary.LittleEndian.Uint64(b)
		check(b[:8], binary.LittleEndian.Uint32(b[8:]))
		event := b[12 : 12+n]
		check(event, binary.LittleEndian.Uint32(b[12+n:]))
		b = b[16+n:]
		fields := fieldsOf(t, event)
		at := math.Float64frombits(fields[1][0].(uint64))
		if v, ok := fields[3]; ok {
			version += string(v[0].([]byte))
			continue
		}
		for _, value := range fieldsOf(t, fields[5][0].([]byte))[1] {
			v := fieldsOf(t, value.([]byte))
			all = append(all, point{string(v[1][0].([]byte)), int(fields[2][0].(uint64)), math.Float32frombits(v[2][0].(uint32)), at})
		}
	}
	if version != "brain.Event:2" || strings.Count(version, "brain") != 1 {
		t.Errorf("version %q, want it once", version)
	}
	return all
}

func fieldsOf(t *testing.T, b []byte) map[protowire.Number][]any {
	t.Helper()
	fields := map[protowire.Number][]any{}
	for len(b) > 0 {
		number, kind, n := protowire.ConsumeTag(b)
		if n < 0 {
			t.Fatal(protowire.ParseError(n))
		}
		b = b[n:]
		var value any
		switch kind {
		case protowire.VarintType:
			value, n = protowire.ConsumeVarint(b)
		case protowire.Fixed32Type:
			value, n = protowire.ConsumeFixed32(b)
		case protowire.Fixed64Type:
			value, n = protowire.ConsumeFixed64(b)
		case protowire.BytesType:
			value, n = protowire.ConsumeBytes(b)
		}
		if n < 0 {
			t.Fatal(protowire.ParseError(n))
		}
		fields[number] = append(fields[number], value)
		b = b[n:]
	}
	return fields
}
