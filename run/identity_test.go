package run

import (
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
)

// grown is a Config of a later version, with settings of every kind more.
type grown struct {
	Config `yaml:",inline"`
	Ratio  float64 `yaml:"lr-ratio" was:"1"`
	Mix    string  `yaml:"mix" was:"none"`
	Deep   bool    `yaml:"deep" was:""`
	Every  int     `yaml:"every" was:"3"`
}

// A setting that a later version adds leaves the hash of every older run as it was, with the value that stands for what
// that run did; any other value is another run.
func TestAddedSettingLeavesTheHash(t *testing.T) {
	old := validConfig()
	flat := func(g grown) reflect.Value { return flatten(t, g) }
	g := grown{Config: old, Ratio: 1, Mix: "none", Every: 3}
	if hashSettings(flat(g)) != old.Hash() {
		t.Error("four added settings with their former values change the hash")
	}
	for name, change := range map[string]func(*grown){
		"float": func(g *grown) { g.Ratio = 2 }, "text": func(g *grown) { g.Mix = "" },
		"bool": func(g *grown) { g.Deep = true }, "whole number": func(g *grown) { g.Every = 0 },
	} {
		h := g
		change(&h)
		if hashSettings(flat(h)) == old.Hash() {
			t.Errorf("%s: another value than the former leaves the hash", name)
		}
	}
}

// flatten is g with the fields of its Config beside its own, as a later Config has them.
func flatten(t *testing.T, g grown) reflect.Value {
	t.Helper()
	var fields []reflect.StructField
	var values []reflect.Value
	add := func(v reflect.Value) {
		for i := range v.NumField() {
			if f := v.Type().Field(i); !f.Anonymous {
				fields, values = append(fields, f), append(values, v.Field(i))
			}
		}
	}
	add(reflect.ValueOf(g.Config))
	add(reflect.ValueOf(g))
	for i := range fields {
		fields[i].Index, fields[i].Offset = nil, 0
	}
	out := reflect.New(reflect.StructOf(fields)).Elem()
	for i, v := range values {
		out.Field(i).Set(v)
	}
	return out
}

// A run directory that was made before there was a setting is read with what stood for it then, a file of the user's with
// today's default.
func TestSavedConfigOfAnOlderVersion(t *testing.T) {
	dir := t.TempDir()
	c := validConfig()
	c.InitFrom = "other/"
	path := filepath.Join(dir, ConfigFile)
	if err := c.Save(path); err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	without := strings.Replace(string(text), "init-from: other/\n", "", 1)
	if without == string(text) {
		t.Fatalf("config.yaml has no init-from:\n%s", text)
	}
	if err := os.WriteFile(path, []byte(without), 0o666); err != nil {
		t.Fatal(err)
	}
	got, err := LoadSaved(dir)
	if err != nil {
		t.Fatal(err)
	}
	c.InitFrom = ""
	if got != c || got.Hash() != c.Hash() || len(got.Changed(c)) > 0 {
		t.Errorf("LoadSaved = %+v, want %+v", got, c)
	}
	var g grown
	setFormer(reflect.ValueOf(&g).Elem())
	if g.Ratio != 1 || g.Mix != "none" || g.Deep || g.Every != 3 {
		t.Errorf("former values %+v", g)
	}
}
