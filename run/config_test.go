package run

import (
	"errors"
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"finetune/internal/setting"
)

// validConfig is the smallest configuration that Validate accepts.
func validConfig() Config {
	c := DefaultConfig()
	c.Model, c.Data, c.Out = "base.gguf", "train.jsonl", "run"
	return c
}

func TestValidate(t *testing.T) {
	for _, tt := range []struct {
		name   string
		change func(*Config)
		want   string // "" = valid
	}{
		{"defaults with the three paths", func(c *Config) {}, ""},
		{"no model", func(c *Config) { c.Model = "" }, `setting "model": missing, want the path of a GGUF base model`},
		{"no data", func(c *Config) { c.Data = "" }, `setting "data": missing, want the path of the training data`},
		{"no output", func(c *Config) { c.Out = "" }, `setting "out": missing, want the path of the run directory`},
		{"whole data held out", func(c *Config) { c.ValFraction = 1 }, `setting "val-fraction": want a fraction from 0 to below 1, got 1`},
		{"nothing held out", func(c *Config) { c.ValFraction = 0 }, ""},
		{"unknown method", func(c *Config) { c.Method = "ia3" }, `setting "method": want dual-lora, lora, rslora, dora or full, got "ia3"`},
		{"rank 0", func(c *Config) { c.Rank = 0; c.Method = "lora" }, `setting "rank": want 1 or more, got 0`},
		{"rank 1 as lora", func(c *Config) { c.Rank = 1; c.Method = "lora" }, ""},
		{"rank 1 has no second group", func(c *Config) { c.Rank = 1 }, `setting "rank": want 2 or more, got 1`},
		{"rank above any model", func(c *Config) { c.Rank = 1 << 20 }, `setting "rank": want 2 to 65536, got 1048576`},
		{"the defaults of full", func(c *Config) {
			d := DefaultsOf("full")
			d.Model, d.Data, d.Out = c.Model, c.Data, c.Out
			*c = d
		}, ""},
		{"full with a rank", func(c *Config) { c.Method = "full" }, `setting "rank": want 0 with method full, which trains the base's own tensors, got 16`},
		{"full with an alpha", func(c *Config) { c.Method, c.Rank, c.Alpha = "full", 0, 8 }, `setting "alpha": want 0 with method full, which trains the base's own tensors, got 8`},
		{"full with targets", func(c *Config) { c.Method, c.Rank = "full", 0 }, `setting "targets": want none with method full, which trains the base's own tensors, got "all-linear"`},
		{"negative alpha", func(c *Config) { c.Alpha = -1 }, `setting "alpha": want 0 or a number above, got -1`},
		{"infinite alpha", func(c *Config) { c.Alpha = math.Inf(1) }, `setting "alpha": want 0 or a number above, got +Inf`},
		{"alpha that no float32 has", func(c *Config) { c.Alpha = 1e-46 }, `setting "alpha": want 0 or a number from 1.18e-38 to 3.4e+38, got 1e-46`},
		{"no targets", func(c *Config) { c.Targets = "" }, `setting "targets": missing, want all-linear, attention or a regular expression`},
		{"broken expression", func(c *Config) { c.Targets = "attn_(" }, `setting "targets": want all-linear, attention or a regular expression, got "attn_("`},
		{"ctx 0", func(c *Config) { c.Ctx = 0 }, `setting "ctx": want 2 or more, got 0`},
		{"batch 0", func(c *Config) { c.Batch = 0 }, `setting "batch": want 1 or more, got 0`},
		{"epochs 0", func(c *Config) { c.Epochs = 0 }, `setting "epochs": want 1 or more, got 0`},
		{"negative steps", func(c *Config) { c.Steps = -5 }, `setting "steps": want 0 or more, got -5`},
		{"unknown long-records", func(c *Config) { c.LongRecords = "split" }, `setting "long-records": want cut or skip, got "split"`},
		{"learning rate 0", func(c *Config) { c.LR = 0 }, `setting "lr": want a number above 0, auto or usual, got 0`},
		{"learning rate not a number", func(c *Config) { c.LR = Rate(math.NaN()) }, `setting "lr": want a number above 0, auto or usual, got NaN`},
		{"floor below the usual rate", func(c *Config) { c.LR, c.MinLR = Usual, 1e-5 }, ""},
		{"negative floor below the usual rate", func(c *Config) { c.LR, c.MinLR = Usual, -1 }, `setting "min-lr": want 0 or more, got -1`},
		{"floor above the peak", func(c *Config) { c.LR, c.MinLR = 2e-3, 1 }, `setting "min-lr": want 0 to the peak learning rate 0.002, got 1`},
		{"unknown schedule", func(c *Config) { c.Schedule = "step" }, `setting "schedule": want cosine, linear or constant, got "step"`},
		{"warm-up in steps", func(c *Config) { c.Warmup = 20 }, ""},
		{"warm-up of half a step", func(c *Config) { c.Warmup = 1.5 }, `setting "warmup": want a fraction below 1 or a whole number of steps, got 1.5`},
		{"no device", func(c *Config) { c.Device = "" }, `setting "device": missing, want auto, cpu, vulkan, cuda, metal or the name of a device`},
		{"a device's own name", func(c *Config) { c.Device = "Vulkan1" }, ""},
		{"fewer than all layers", func(c *Config) { c.GPULayers = -2 }, `setting "gpu-layers": want -1 or more, got -2`},
		{"memory without a unit", func(c *Config) { c.MaxMemory = "4" }, `setting "max-memory": want a number with a unit, such as 4GiB or 800MB, got "4"`},
		{"weights of classes", func(c *Config) { c.Task, c.ClassWeights = TaskClassify, "spam=2, a=b=0.5" }, ""},
		{"balanced classes", func(c *Config) { c.Task, c.ClassWeights = TaskClassify, "balanced" }, ""},
		{"weights without classes", func(c *Config) { c.ClassWeights = "balanced" }, `setting "class-weights": want none without task classify, got "balanced"`},
		{"a weight of 0", func(c *Config) { c.Task, c.ClassWeights = TaskClassify, "spam=0" },
			`setting "class-weights": want balanced, or weights above 0 with commas between them, such as spam=2,other=1, got "spam=0"`},
		{"a weight that is no number", func(c *Config) { c.Task, c.ClassWeights = TaskClassify, "spam=NaN" },
			`setting "class-weights": want balanced, or weights above 0 with commas between them, such as spam=2,other=1, got "spam=NaN"`},
		{"never logging", func(c *Config) { c.LogEvery = 0 }, `setting "log-every": want 1 or more, got 0`},
	} {
		c := validConfig()
		tt.change(&c)
		err := c.Validate()
		got := ""
		if err != nil {
			got = err.Error()
			if target := (*setting.Error)(nil); !errors.As(err, &target) {
				t.Errorf("%s: error is a %T, want a *setting.Error", tt.name, err)
			}
		}
		if got != tt.want {
			t.Errorf("%s: Validate() = %q, want %q", tt.name, got, tt.want)
		}
	}
}

func TestConfigSaveLoad(t *testing.T) {
	c := validConfig()
	c.Alpha, c.Warmup, c.Seed, c.MaxMemory, c.Targets = 32.5, 20, math.MaxUint64, "4GiB", `attn_[qv]\.weight`
	path := filepath.Join(t.TempDir(), "config.yaml")
	if err := c.Save(path); err != nil {
		t.Fatal(err)
	}
	got, err := LoadConfig(path)
	if err != nil {
		t.Fatal(err)
	}
	if got != c {
		t.Errorf("LoadConfig(Save(c)) = %+v, want %+v", got, c)
	}
}

func TestFileHasTheDefaultsOfItsMethod(t *testing.T) {
	path := filepath.Join(t.TempDir(), "run.yaml")
	if err := os.WriteFile(path, []byte("method: full\nctx: 32\n"), 0o666); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		method string
		want   Config
	}{{"", DefaultsOf(MethodFull)}, {"full", DefaultsOf(MethodFull)}, {"lora", DefaultsOf("lora")}} {
		got, err := LoadConfigFor(path, tt.method)
		if err != nil {
			t.Fatal(err)
		}
		tt.want.Ctx, tt.want.Method = 32, "full"
		if got != tt.want {
			t.Errorf("LoadConfigFor(%q) = %+v, want %+v", tt.method, got, tt.want)
		}
	}
}

func TestLoadConfig(t *testing.T) {
	for _, tt := range []struct{ name, text, want string }{
		{"empty file", "", ""},
		{"only a comment", "# nothing\n", ""},
		{"one value", "rank: 8\n", ""},
		{"unknown key", "rank: 8\nrnk: 8\n", "line 2: key rnk is unknown"},
		{"wrong kind", "rank: many\n", "line 1: cannot unmarshal !!str `many` into int"},
		{"a list", "- rank\n", "line 1: cannot unmarshal !!seq into keys and values"},
		{"not YAML", "rank: [\n", "line 1: did not find expected node content"},
		{"second document", "rank: 8\n---\nrank: 9\n", "holds more than one YAML document"},
		{"too large", strings.Repeat("#", maxConfigBytes+1), "larger than 1048576 bytes"},
	} {
		path := filepath.Join(t.TempDir(), "run.yaml")
		if err := os.WriteFile(path, []byte(tt.text), 0o666); err != nil {
			t.Fatal(err)
		}
		c, err := LoadConfig(path)
		switch {
		case tt.want == "" && err != nil:
			t.Errorf("%s: LoadConfig error = %v, want none", tt.name, err)
		case tt.want == "" && c.Ctx != DefaultConfig().Ctx:
			t.Errorf("%s: ctx = %d, want the default", tt.name, c.Ctx)
		case tt.want != "" && (err == nil || !strings.HasSuffix(err.Error(), tt.want) || strings.Contains(err.Error(), "\n")):
			t.Errorf("%s: LoadConfig error = %v, want …%s", tt.name, err, tt.want)
		}
	}
	if _, err := LoadConfig(filepath.Join(t.TempDir(), "none.yaml")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("missing file: LoadConfig error = %v, want fs.ErrNotExist", err)
	}
}

// Every field must be classed: either it changes Hash or it is free on resume.
func TestConfigHashCoversEveryFixedField(t *testing.T) {
	base := validConfig()
	typ := reflect.TypeFor[Config]()
	for i := range typ.NumField() {
		c, field := base, typ.Field(i)
		switch v := reflect.ValueOf(&c).Elem().Field(i); v.Kind() {
		case reflect.String:
			v.SetString(v.String() + "x")
		case reflect.Int:
			v.SetInt(v.Int() + 1)
		case reflect.Uint64:
			v.SetUint(v.Uint() + 1)
		case reflect.Float64:
			v.SetFloat(v.Float() + 1)
		}
		fixed := field.Tag.Get("resume") != "free"
		if changed := c.Hash() != base.Hash(); changed != fixed {
			t.Errorf("%s: a change of the field changes the hash: %t, want %t", field.Name, changed, fixed)
		}
		want := []string{field.Tag.Get("yaml")}
		if !fixed {
			want = nil
		}
		if got := base.Changed(c); !slices.Equal(got, want) {
			t.Errorf("%s: Changed = %q, want %q", field.Name, got, want)
		}
	}
}

func TestWarmupSteps(t *testing.T) {
	for _, tt := range []struct {
		warmup float64
		total  int
		want   int
	}{{0, 100, 0}, {0.03, 200, 6}, {0.03, 10, 0}, {0.5, 3, 2}, {1, 200, 1}, {20, 200, 20}} {
		if got := (Config{Warmup: tt.warmup}).WarmupSteps(tt.total); got != tt.want {
			t.Errorf("Config{Warmup: %v}.WarmupSteps(%d) = %d, want %d", tt.warmup, tt.total, got, tt.want)
		}
	}
}
