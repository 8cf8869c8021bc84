package trainer

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"finetune/gguf"
	"finetune/internal/need"
	"finetune/internal/testrun"
	"finetune/run"
	"finetune/trainer/data"
	"finetune/trainer/graph"
)

// refused trains what cannot be trained and returns the error: one line, and nothing is left behind.
func refused(t *testing.T, c run.Config) error {
	t.Helper()
	events := 0
	_, err := Train(context.Background(), c, false, func(Event) { events++ })
	if err == nil || strings.Contains(err.Error(), "\n") {
		t.Errorf("Train = %v, want an error of one line", err)
	}
	if testrun.Exists(c.Out) || events > 0 {
		t.Errorf("refused with %v: run directory left: %v, events told: %d", err, testrun.Exists(c.Out), events)
	}
	return err
}

func TestBadInputIsOneLineAndLeavesNothing(t *testing.T) {
	testrun.NoLeavings(t)
	good := testrun.Tiny(t)
	trained := testrun.Tiny(t)
	trained.Method, trained.Steps = "lora", 1
	mustTrain(t, trained, false)
	file := func(name, text string) func(*run.Config) {
		path := testrun.Write(t, name, text)
		return func(c *run.Config) { c.Data = path }
	}
	for _, tt := range []struct {
		name   string
		change func(*run.Config)
		want   string // part of the error
	}{
		{"no such model", func(c *run.Config) { c.Model = "none.gguf" }, "open none.gguf: no such file"},
		{"a folder as model", func(c *run.Config) { c.Model = t.TempDir() }, "not a regular file"},
		{"an empty file as model", func(c *run.Config) { c.Model = testrun.Write(t, "model.gguf", "") }, "ends at byte 0"},
		{"text as model", func(c *run.Config) { c.Model = c.Data }, "not a GGUF"},
		{"an adapter as model", func(c *run.Config) { c.Model = filepath.Join(trained.Out, run.AdapterFile) }, "holds an adapter, want a base model"},
		{"a tokenizer as model", func(c *run.Config) { c.Model = vocabularyOnly(t, good.Model) }, "holds no weights"},
		{"an architecture llama.cpp does not know", func(c *run.Config) { c.Model = changed(t, good.Model, "general.architecture", "quux") }, "quux"},
		{"a value llama.cpp needs is missing", func(c *run.Config) { c.Model = changed(t, good.Model, "llama.block_count", nil) }, "llama.block_count"},
		{"more blocks than the file has", func(c *run.Config) { c.Model = changed(t, good.Model, "llama.block_count", uint32(3)) }, "blk.1."},
		{"a weight with a scale apart", func(c *run.Config) { c.Model = scaledApart(t, good.Model) }, `"blk.0.attn_q.weight" has a scale apart, "blk.0.attn_q.scale"`},

		{"no such data", func(c *run.Config) { c.Data = "none.txt" }, "open none.txt: no such file"},
		{"empty data", file("empty.txt", ""), `empty.txt": `},
		{"blank lines only", file("empty.jsonl", "\n\n"), `empty.jsonl": `},
		{"not UTF-8", file("latin.txt", "the girl said \xe9\n"), "UTF-8"},
		{"records not UTF-8", file("latin.jsonl", `{"text": "the girl"}`+"\n"+`{"text": "`+"\xe9"+`"}`+"\n"), "UTF-8"},
		{"broken line", file("broken.jsonl", `{"text": "the girl"}`+"\n"+`{"text": "the`+"\n"), `broken.jsonl" line 2: `},
		{"a list as record", file("list.jsonl", "[1]\n"), `list.jsonl" line 1: `},
		{"unknown fields", file("fields.jsonl", `{"txt": "the girl"}`+"\n"), `line 1: record has the fields "txt"; want "text"`},
		{"a list as text", file("list.jsonl", `{"text": [5]}`+"\n"), `line 1: "text" is an array, want a string`},
		{"chat without a template", file("chat.jsonl", `{"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]}`+"\n"), "no chat template"},
		{"no trained token", file("long.jsonl", longPrompts(3)), "no trained token in"},
		{"no trained token, all skipped", func(c *run.Config) {
			file("long.jsonl", longPrompts(3))(c)
			c.LongRecords = "skip"
		}, "no trained token in"},
		{"nothing to hold out", func(c *run.Config) { file("one.jsonl", `{"text": "the girl"}`+"\n")(c); c.ValFraction = 0.5 }, "at least 2"},
		{"validation data missing", func(c *run.Config) { c.Val = "none.txt" }, "open none.txt: no such file"},
		{"a table as data", file("table.csv", "a,b\n1,2\n"), "table.csv"},

		{"rank 0", func(c *run.Config) { c.Rank = 0 }, "rank 0"},
		{"rank above the smallest dimension", func(c *run.Config) { c.Rank = 33 }, "rank 33"},
		{"unknown method", func(c *run.Config) { c.Method = "ia3" }, `method "ia3"`},
		{"targets that match nothing", func(c *run.Config) { c.Targets = "attn_x" }, "match no weight, the model has attn_k, attn_output, attn_q"},
		{"targets by substring", func(c *run.Config) { c.Targets = "attn" }, "match no weight"},
		{"the output head as target", func(c *run.Config) { c.Targets = ".*" }, "is not supported"},
		{"broken expression", func(c *run.Config) { c.Targets = "attn_(q" }, "not a regular expression"},
		{"context above the model's", func(c *run.Config) { c.Ctx = 65 }, "ctx 65: the model"},
		{"warm-up above the steps", func(c *run.Config) { c.Warmup = 100 }, "warm-up of 100 steps"},
		{"device that is not there", func(c *run.Config) { c.Device = "Vulkan77" }, `device "Vulkan77": there is none of that name; there is `},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c := testrun.Elsewhere(t, good)
			tt.change(&c)
			if err := refused(t, c); err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("Train = %v, want %q", err, tt.want)
			}
		})
	}
}

// longPrompts is records of which nothing is left to learn in a short context.
func longPrompts(n int) (lines string) {
	for i := range n {
		lines += fmt.Sprintf(`{"prompt": "%d %s", "completion": " cat"}`+"\n", i, strings.Repeat("girl ", 20))
	}
	return lines
}

// changed copies a model with one key set to another value, or without it for nil.
func changed(t *testing.T, model, key string, value gguf.Value) string {
	t.Helper()
	return copied(t, model, func(b *gguf.Builder, f *gguf.File) {
		for _, kv := range f.KVs() {
			if kv.Key != key {
				b.Set(kv.Key, kv.Value)
			}
		}
		if value != nil {
			b.Set(key, value)
		}
		for _, tensor := range f.Tensors() {
			bytes, err := f.Data(tensor.Name)
			if err != nil {
				t.Fatal(err)
			}
			b.AddTensor(tensor.Name, tensor.Type, tensor.Shape, bytes)
		}
	})
}

// scaledApart is a model with a scale for one weight, as those in nvfp4 have them for all.
func scaledApart(t *testing.T, model string) string {
	t.Helper()
	return copied(t, model, func(b *gguf.Builder, f *gguf.File) {
		b.SetAll(f.KVs())
		for _, tensor := range f.Tensors() {
			b.CopyTensor(f, tensor.Name)
		}
		b.AddTensor("blk.0.attn_q.scale", gguf.TypeF32, []int64{1}, []byte{0, 0, 128, 63})
	})
}

// vocabularyOnly copies the keys of a model and no tensor.
func vocabularyOnly(t *testing.T, model string) string {
	t.Helper()
	return copied(t, model, func(b *gguf.Builder, f *gguf.File) {
		for _, kv := range f.KVs() {
			b.Set(kv.Key, kv.Value)
		}
	})
}

// copied writes a new model from what fill takes of an old one.
func copied(t *testing.T, model string, fill func(*gguf.Builder, *gguf.File)) string {
	t.Helper()
	f, err := gguf.Open(model)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	b := gguf.NewBuilder()
	fill(b, f)
	path := filepath.Join(t.TempDir(), "copy.gguf")
	if err := b.WriteFile(path); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestTokenizerFilesAreNoModels(t *testing.T) {
	testrun.NoLeavings(t)
	check := func(t *testing.T, path string) {
		c := testrun.Tiny(t)
		c.Model = path
		if err := refused(t, c); err == nil || !strings.Contains(err.Error(), "holds no weights") {
			t.Errorf("Train = %v, want that it holds no weights", err)
		}
	}
	check(t, vocabularyOnly(t, need.Own(t, "demo/base.gguf")))
	for _, name := range []string{"ggml-vocab-llama-spm.gguf", "ggml-vocab-gpt-2.gguf", "ggml-vocab-phi-3.gguf"} {
		t.Run(name, func(t *testing.T) { check(t, need.Shared(t, "tokenizers/"+name)) })
	}
}

func TestTruncatedModel(t *testing.T) {
	testrun.NoLeavings(t)
	c := testrun.Tiny(t)
	whole := testrun.Read(t, c.Model)
	cuts := []int{1, 3, 4, 7, 8, 16, 23, 24, 25, 100, len(whole) - 1, len(whole) - 4, len(whole) / 2}
	for i := 31; i < len(whole); i += len(whole) / 60 {
		cuts = append(cuts, i)
	}
	for _, n := range cuts {
		c := testrun.Elsewhere(t, c)
		c.Model = testrun.Write(t, "cut.gguf", string(whole[:n]))
		err := refused(t, c)
		if truncated := (*gguf.TruncatedError)(nil); n >= 4 && !errors.As(err, &truncated) {
			t.Errorf("first %d of %d bytes: Train = %v, want a *gguf.TruncatedError", n, len(whole), err)
		}
	}
}

func TestRunDirectoryInUseStaysAsItIs(t *testing.T) {
	testrun.NoLeavings(t)
	c := testrun.Tiny(t)
	c.Steps = 1
	mustTrain(t, c, false)
	notes := t.TempDir()
	if err := os.WriteFile(filepath.Join(notes, "notes.txt"), []byte("mine"), 0o666); err != nil {
		t.Fatal(err)
	}
	file := testrun.Write(t, "file", "mine")
	held, err := run.Create(filepath.Join(t.TempDir(), "held"))
	if err != nil {
		t.Fatal(err)
	}
	defer held.Close()
	for _, tt := range []struct{ out, want string }{
		{c.Out, "holds a run already"},
		{notes, `not empty, holds "notes.txt"`},
		{file, "is a file"},
		{held.Name(), "in use by process"},
	} {
		before := listing(t, filepath.Dir(tt.out))
		again := c
		again.Out = tt.out
		if _, err := Train(context.Background(), again, false, nil); err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("Train = %v, want %q", err, tt.want)
		}
		if after := listing(t, filepath.Dir(tt.out)); !slices.Equal(after, before) {
			t.Errorf("%s: around the directory there is %v, want %v as before", tt.want, after, before)
		}
	}
}

// An empty folder that was there stays, empty.
func TestRefusedRunKeepsAFolderThatWasThere(t *testing.T) {
	c := testrun.Tiny(t)
	c.Out, c.Rank = t.TempDir(), 1000
	if _, err := Train(context.Background(), c, false, nil); err == nil {
		t.Fatal("Train with rank 1000 = nil, want an error")
	}
	if !testrun.Exists(c.Out) || len(listing(t, c.Out)) > 0 {
		t.Errorf("the folder: there %v, holds %v, want it empty", testrun.Exists(c.Out), listing(t, c.Out))
	}
}

// Mamba has no attention: its state goes from token to token through operations of its own.
func TestArchitectureWithoutRulesIsNamed(t *testing.T) {
	testrun.NoLeavings(t)
	c := testrun.Tiny(t)
	c.Model, c.Targets = mamba(t, c.Model), "ssm_in|ssm_out"
	testrun.Model(t, c)
	err := refused(t, c)
	unsupported := (*graph.UnsupportedError)(nil)
	if !errors.As(err, &unsupported) || unsupported.Arch != "mamba" || unsupported.Op == "" || unsupported.Node == "" {
		t.Errorf("Train = %v, want a *graph.UnsupportedError with architecture, operation and node", err)
	}
}

// mamba writes a model of that architecture with the tokenizer of another one.
func mamba(t *testing.T, model string) string {
	const embd, inner, state, rank, conv = 32, 64, 8, 4, 4
	return copied(t, model, func(b *gguf.Builder, f *gguf.File) {
		b.Set("general.architecture", "mamba")
		for _, kv := range f.KVs() {
			if strings.HasPrefix(kv.Key, "tokenizer.") {
				b.Set(kv.Key, kv.Value)
			}
		}
		for key, n := range map[string]uint32{"context_length": 64, "embedding_length": embd, "feed_forward_length": 0, "block_count": 1,
			"attention.head_count": 0, "ssm.conv_kernel": conv, "ssm.inner_size": inner, "ssm.state_size": state, "ssm.time_step_rank": rank} {
			b.Set("mamba."+key, n)
		}
		b.Set("mamba.attention.layer_norm_rms_epsilon", float32(1e-5))
		tokens, err := f.Strings("tokenizer.ggml.tokens")
		if err != nil {
			t.Fatal(err)
		}
		add := func(name string, shape ...int64) {
			n := int64(4)
			for _, d := range shape {
				n *= d
			}
			b.AddTensor(name, gguf.TypeF32, shape, make([]byte, n))
		}
		add("token_embd.weight", embd, int64(len(tokens)))
		add("output_norm.weight", embd)
		add("blk.0.attn_norm.weight", embd)
		add("blk.0.ssm_in.weight", embd, 2*inner)
		add("blk.0.ssm_conv1d.weight", conv, inner)
		add("blk.0.ssm_conv1d.bias", inner)
		add("blk.0.ssm_x.weight", inner, rank+2*state)
		add("blk.0.ssm_dt.weight", rank, inner)
		add("blk.0.ssm_dt.bias", inner)
		add("blk.0.ssm_a", state, inner)
		add("blk.0.ssm_d", inner)
		add("blk.0.ssm_out.weight", inner, embd)
	})
}

func TestErrorsOfTheDataKeepTheirKind(t *testing.T) {
	c := testrun.Tiny(t)
	c.Data = testrun.Write(t, "empty.txt", "")
	if err := refused(t, c); !errors.Is(err, data.ErrEmpty) {
		t.Errorf("empty text: Train = %v, want data.ErrEmpty", err)
	}
	c.Data = testrun.Write(t, "long.jsonl", longPrompts(2))
	if err := refused(t, c); !errors.Is(err, data.ErrNoTrained) {
		t.Errorf("long prompts: Train = %v, want data.ErrNoTrained", err)
	}
}
