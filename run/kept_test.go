package run_test

import (
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"finetune/run"
)

// A preview is kept as it was first written; exports are added up; what is no JSON among them is passed over.
func TestPreviewAndExportsAreKept(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "run")
	d, err := run.Create(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	if docs, err := run.Preview(dir); docs != nil || err != nil {
		t.Errorf("Preview() = %v, %v of a run without one", docs, err)
	}
	want := []run.Document{{Parts: []run.Part{{Text: "a\n<b>"}, {Text: "c", Learned: true, Special: true}}, Cut: true}}
	for _, docs := range [][]run.Document{want, nil} {
		if err := d.KeepPreview(docs); err != nil {
			t.Fatal(err)
		}
	}
	if docs, err := run.Preview(dir); err != nil || !reflect.DeepEqual(docs, want) {
		t.Errorf("Preview() = %v, %v, want %v", docs, err, want)
	}
	for _, n := range []int{1, 2} {
		if err := run.AddExport(dir, map[string]int{"n": n}); err != nil {
			t.Fatal(err)
		}
		f, err := os.OpenFile(d.Path(run.ExportsFile), os.O_APPEND|os.O_WRONLY, 0)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := f.WriteString("half a li\n"); err != nil {
			t.Fatal(err)
		}
		if err := f.Close(); err != nil {
			t.Fatal(err)
		}
	}
	all, err := run.Exports(dir)
	if err != nil || len(all) != 2 || string(all[0]) != `{"n":1}` || string(all[1]) != `{"n":2}` {
		t.Errorf("Exports() = %s, %v", all, err)
	}
	if err := os.Remove(d.Path(run.PreviewFile)); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(d.Path(run.PreviewFile), 0o777); err != nil {
		t.Fatal(err)
	}
	if _, err := run.Preview(dir); err == nil || !strings.Contains(err.Error(), "want a file") {
		t.Errorf("a folder in the place of a preview: %v", err)
	}
}

// Settings are those of the file, in its order.
func TestSettingsAreInTheOrderOfTheFile(t *testing.T) {
	c := run.DefaultConfig()
	c.Model, c.Rank, c.LR = "m.gguf", 3, run.AutoRate
	all, err := c.Settings()
	if err != nil || len(all) != reflect.TypeFor[run.Config]().NumField() {
		t.Fatalf("%d settings, %v", len(all), err)
	}
	got := map[string]any{}
	for _, s := range all {
		got[s.Key] = s.Value
	}
	if all[0] != (run.Setting{Key: "model", Value: "m.gguf"}) || got["rank"] != 3 || got["lr"] != "auto" {
		t.Errorf("settings %v", all)
	}
}
