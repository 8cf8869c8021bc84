package run

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestSuggest(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		what                string
		m                   Material
		ctx, batch, epochs  int
		steps               int // of the run, at least
		every               bool
		reason, reasonOfCtx string
	}{
		{"few short records", Material{2048, 18_000, 300, map[int]int{60: 200, 67: 100}}, 256, 1, 3, fewSteps, true, "few so that", "the longest record has 67 tokens; several share"},
		{"many records", Material{8192, 3_000_000, 20_000, map[int]int{150: 19_990, 300: 10}}, 320, 6, 1, 1000, true, "up to 1920 tokens", "the longest record has 300"},
		{"one that is far longer", Material{8192, 400_000, 1000, map[int]int{400: 999, 9000: 1}}, 416, 4, 3, fewSteps, true, "", "1 of 1000 records are longer and are cut; the longest has 9000"},
		{"longer than the base takes", Material{512, 900_000, 1000, map[int]int{900: 1000}}, 512, 4, 3, fewSteps, true, "", "1000 of 1000 records are longer"},
		{"a long text", Material{8192, 1_000_000, 1, nil}, 512, 4, 1, fewSteps, true, "", "a piece of the text"},
		{"a short text", Material{128, 400, 1, nil}, 128, 1, 3, 1, false, "", "a piece of the text"},
		{"a base that does not say", Material{0, 1_000_000, 1, nil}, 512, 4, 1, fewSteps, true, "", ""},
		{"nothing", Material{}, 512, 1, 3, 1, false, "", ""},
	} {
		c, why := validConfig().Suggest(tt.m)
		windows := max(1, int(float64(tt.m.Tokens)*0.9)/c.Ctx)
		if c.Ctx != tt.ctx || c.Batch != tt.batch || c.Epochs != tt.epochs || c.TotalSteps(windows) < tt.steps || (c.EvalEvery > 0) != tt.every {
			t.Errorf("%s: ctx %d, batch %d, epochs %d, %d steps, eval-every %d", tt.what, c.Ctx, c.Batch, c.Epochs, c.TotalSteps(windows), c.EvalEvery)
		}
		if !strings.Contains(why["batch"], tt.reason) || !strings.Contains(why["ctx"], tt.reasonOfCtx) || why["epochs"] == "" {
			t.Errorf("%s: reasons %q", tt.what, why)
		}
		if err := c.Validate(); err != nil {
			t.Errorf("%s: %v", tt.what, err)
		}
	}
}

// What is written with comments is read as it was; with every # taken away it is still a file of settings.
func TestAnnotatedIsRead(t *testing.T) {
	t.Parallel()
	c := validConfig()
	c.Data, c.Ctx, c.Map, c.LR = "a: b #c.txt\nd.txt", 77, "completion=x: y", AutoRate
	set := map[string]bool{"model": true, "data": true, "out": true, "ctx": true, "map": true}
	text, err := c.Annotated("about: this\n\nand that", func(key string) Note { return Note{"words: of " + key + "\n" + strings.Repeat("more ", 40), set[key]} })
	if err != nil {
		t.Fatal(err)
	}
	read := func(text string) Config {
		t.Helper()
		path := filepath.Join(t.TempDir(), "c.yaml")
		if err := os.WriteFile(path, []byte(text), 0o666); err != nil {
			t.Fatal(err)
		}
		c, err := LoadConfig(path)
		if err != nil {
			t.Fatalf("%v in\n%s", err, text)
		}
		return c
	}
	want := DefaultConfig()
	want.Model, want.Data, want.Out, want.Ctx, want.Map = c.Model, c.Data, c.Out, c.Ctx, c.Map
	if got := read(string(text)); got != want {
		t.Errorf("read %+v, want %+v, from\n%s", got, want, text)
	}
	var all strings.Builder
	for line := range strings.Lines(string(text)) {
		if strings.HasPrefix(line, "#") && !strings.HasPrefix(line, "# ") {
			line = strings.TrimPrefix(line, "#")
		}
		all.WriteString(line)
	}
	if got := read(all.String()); got != c {
		t.Errorf("without # read %+v, want %+v, from\n%s", got, c, all.String())
	}
}
