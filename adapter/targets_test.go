package adapter

import (
	"fmt"
	"strings"
	"testing"

	"finetune/gguf"
)

// modelTensors lists tensors as several architectures have them.
func modelTensors() []gguf.Tensor {
	var ts []gguf.Tensor
	add := func(name string, shape ...int64) { ts = append(ts, gguf.Tensor{Name: name, Shape: shape}) }
	add("token_embd.weight", 64, 512)
	add("output.weight", 64, 512)
	add("output_norm.weight", 64)
	add("rope_freqs.weight", 8)
	for _, n := range []int{0, 1, 10} {
		for _, m := range []string{"attn_q", "attn_k", "attn_v", "attn_output"} {
			add(fmt.Sprintf("blk.%d.%s.weight", n, m), 64, 32)
			add(fmt.Sprintf("blk.%d.%s.bias", n, m), 32)
		}
		add(fmt.Sprintf("blk.%d.attn_norm.weight", n), 64)
		add(fmt.Sprintf("blk.%d.attn_q_norm.weight", n), 16, 4) // two dimensions, as in command-r
		add(fmt.Sprintf("blk.%d.ffn_gate.weight", n), 64, 172)
		add(fmt.Sprintf("blk.%d.ffn_up.weight", n), 64, 172)
		add(fmt.Sprintf("blk.%d.ffn_down.weight", n), 172, 64)
		add(fmt.Sprintf("blk.%d.ffn_gate_exps.weight", n), 64, 172, 4)
		add(fmt.Sprintf("blk.%d.ssm_conv1d.weight", n), 4, 64)
		add(fmt.Sprintf("blk.%d.ssm_in.weight", n), 64, 128)
		add(fmt.Sprintf("blk.%d.ssm_a", n), 16, 64)
	}
	return ts
}

func TestSelect(t *testing.T) {
	attention := "attn_q attn_k attn_v attn_output"
	for _, c := range []struct {
		targets string
		want    string // short names in block 0
		blocks  int
	}{
		{"all-linear", attention + " ffn_gate ffn_up ffn_down", 3},
		{"attention", attention, 3},
		{"attn_q", "attn_q", 3},
		{"attn_q|ffn_down", "attn_q ffn_down", 3},
		{"attn_.", "attn_q attn_k attn_v", 3},
		{`blk\.(0|1)\..*`, attention + " ffn_gate ffn_up ffn_down ssm_in", 2},
		{`blk\.0\.attn_q\.weight`, "attn_q", 1},
		{`ffn_.*`, "ffn_gate ffn_up ffn_down", 3},
	} {
		targets, err := ParseTargets(c.targets)
		if err != nil {
			t.Fatal(err)
		}
		got, err := targets.Select(modelTensors())
		if err != nil {
			t.Fatal(err)
		}
		want := strings.Fields(c.want)
		if len(got) != len(want)*c.blocks {
			t.Errorf("Select(%q) chose %d tensors, want %d", c.targets, len(got), len(want)*c.blocks)
			continue
		}
		for i, name := range want {
			if full := "blk.0." + name + ".weight"; got[i].Name != full || !targets.Match(full) {
				t.Errorf("Select(%q)[%d] = %q, want %q", c.targets, i, got[i].Name, full)
			}
		}
	}
}

// Named targets take gates of attention, but not one of a number a head.
func TestSelectGates(t *testing.T) {
	all := []gguf.Tensor{{Name: "blk.0.attn_gate.weight", Shape: []int64{64, 64}}, {Name: "blk.1.attn_gate.weight", Shape: []int64{64, 4}},
		{Name: "blk.1.inp_gate.weight", Shape: []int64{64, 16}}, {Name: "blk.1.proj.weight", Shape: []int64{16, 64}}}
	for text, want := range map[string]int{"attention": 1, "all-linear": 3, "attn_gate": 2} {
		targets, err := ParseTargets(text)
		if err != nil {
			t.Fatal(err)
		}
		if got, err := targets.Select(all); err != nil || len(got) != want {
			t.Errorf("Select(%q) = %v, %v, want %d tensors", text, got, err, want)
		}
	}
}

func TestMatchNever(t *testing.T) {
	for _, name := range []string{
		"blk.0.attn_q.bias", "blk.0.attn_norm.weight", "blk.0.attn_q_norm.weight", "blk.0.ssm_a",
		"blk.0.ssm_conv1d.weight", "rope_freqs.weight", "output_norm.weight", "blk.x.attn_q.weight", "blk.0.rope_factors_long.weight",
	} {
		for _, s := range []string{"all-linear", "attention", `blk\..*`, "attn_.*|ssm_.*|rope_.*|output_norm"} {
			targets, err := ParseTargets(s)
			if err != nil {
				t.Fatal(err)
			}
			if targets.Match(name) {
				t.Errorf("%q matches %q", s, name)
			}
		}
	}
}

func TestPatternsDoNotMatchBySubstring(t *testing.T) {
	for _, s := range []string{"attn", "ttn_q", "attn_|q", "blk", "weight", `blk\.1`} {
		targets, err := ParseTargets(s)
		if err != nil {
			t.Fatal(err)
		}
		if chosen, err := targets.Select(modelTensors()); err == nil {
			t.Errorf("Select(%q) chose %q", s, chosen[0].Name)
		}
	}
}

func TestTargetsRefuse(t *testing.T) {
	parse := func(s string) error { _, err := ParseTargets(s); return err }
	sel := func(s string, ts []gguf.Tensor) error {
		targets, err := ParseTargets(s)
		if err == nil {
			_, err = targets.Select(ts)
		}
		return err
	}
	head := `, and adapting the embeddings or the output head is not supported`
	for _, c := range []struct {
		err  error
		want string
	}{
		{parse(""), `adapter: targets "": want all-linear, attention or a regular expression`},
		{parse("attn_(q"), `adapter: targets "attn_(q": not a regular expression: missing closing )`},
		{parse("a)|(b"), `adapter: targets "a)|(b": not a regular expression: unexpected )`},
		{parse("output"), `adapter: targets "output": match "output.weight"` + head},
		{parse("attn_q|token_embd"), `adapter: targets "attn_q|token_embd": match "token_embd.weight"` + head},
		{parse(".*"), `adapter: targets ".*": match "token_embd.weight"` + head},
		{sel("q_proj", modelTensors()), `adapter: targets "q_proj": match no weight, the model has attn_k, attn_output, attn_q, attn_v, ffn_down, ffn_gate, ffn_up, ssm_in`},
		{sel("all-linear", modelTensors()[:4]), `adapter: targets "all-linear": match no weight, the model has none that can be adapted`},
		{sel("attn_.*norm", modelTensors()), `adapter: targets "attn_.*norm": match no weight, the model has attn_k, attn_output, attn_q, attn_v, ffn_down, ffn_gate, ffn_up, ssm_in`},
	} {
		if c.err == nil || !strings.HasPrefix(c.err.Error(), c.want) {
			t.Errorf("error %v, want %s", c.err, c.want)
		}
	}
}

func TestBuild(t *testing.T) {
	targets, _ := ParseTargets("all-linear")
	tensors, _ := targets.Select(modelTensors())
	a, err := Build(MethodDual, 5, 6, tensors)
	if err != nil {
		t.Fatal(err)
	}
	// Rank times n_in + n_out: four of attention, three of 64 and 172, three blocks.
	if want := 5 * 3 * (4*(64+32) + 3*(64+172)); a.Parameters() != want {
		t.Errorf("Parameters() = %d, want %d", a.Parameters(), want)
	}
	if a.Method() != MethodDual || a.Rank() != 5 || a.Alpha() != 6 {
		t.Errorf("built %s rank %d alpha %v", a.Method(), a.Rank(), a.Alpha())
	}
	names := a.Tensors()
	if len(names) != 3*7*4 || names[0].Name != "blk.0.attn_k.weight.dual_a" || names[len(names)-1].Name != "blk.10.ffn_up.weight.dual_d" {
		t.Errorf("%d tensors from %q to %q", len(names), names[0].Name, names[len(names)-1].Name)
	}
	if w, ok := a.Weight("blk.1.ffn_down.weight"); !ok || w.Matrices()[1].Mat.NE != [2]int{3, 64} {
		t.Errorf("blk.1.ffn_down.weight: %v, B of %v, want [3 64]", ok, w.Matrices()[1].Mat.NE)
	}
}

func TestCheckRankRefuses(t *testing.T) {
	tensors := modelTensors()[4:7:7]
	tensors = append(tensors, gguf.Tensor{Name: "blk.0.attn_k.weight", Shape: []int64{64, 24}})
	tensors = []gguf.Tensor{tensors[0], tensors[3]}
	for _, c := range []struct {
		m    Method
		rank int
		want string
	}{
		{MethodLoRA, 24, ""},
		{MethodDual, 2, ""},
		{MethodLoRA, 25, `adapter: rank 25: tensor "blk.0.attn_k.weight" has shape [64 24], want a rank of at most 24`},
		{MethodLoRA, 0, "adapter: rank 0: lora needs at least 1"},
		{MethodDual, 1, "adapter: rank 1: dual-lora needs at least 2"},
		{"x", 4, `adapter: method "x": want "dual-lora", "lora", "rslora" or "dora"`},
	} {
		err := CheckRank(c.m, c.rank, tensors)
		if got := fmt.Sprint(err); c.want == "" && err != nil || c.want != "" && got != c.want {
			t.Errorf("CheckRank(%s, %d) = %v, want %s", c.m, c.rank, err, c.want)
		}
	}
}
