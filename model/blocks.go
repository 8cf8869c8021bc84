package model

import (
	"fmt"
	"slices"
	"strings"
)

// need is what a block of some architectures has to have where llama.cpp takes a tensor for optional and then reads it anyway.
type need struct {
	archs []string
	has   string     // a tensor of the block, without "blk.N." and ".weight"; a block without it needs nothing
	one   [][]string // sets of tensors, one of which has to be there as a whole
}

var needs = []need{
	{[]string{"phi3", "pockettts"}, "attn_output", [][]string{{"attn_qkv"}, {"attn_q", "attn_k", "attn_v"}}},
	{[]string{"qwen35", "qwen35moe"}, "ssm_out", [][]string{{"attn_qkv", "attn_gate"}}},
	{[]string{"qwen3next"}, "ssm_out", [][]string{{"attn_qkv", "attn_gate"}, {"ssm_in"}}},
	{[]string{"grok", "hy-v3", "hy_v3", "mimo2", "step35"}, "ffn_norm", [][]string{{"ffn_gate", "ffn_up", "ffn_down"}, {"ffn_gate_inp", "ffn_gate_exps", "ffn_up_exps", "ffn_down_exps"}}},
	{[]string{"gemma4"}, "ffn_gate_inp", [][]string{{"ffn_gate_up_exps"}, {"ffn_gate_exps", "ffn_up_exps"}}},
}

// headless are the architectures that have no attention, or not in every block; llama.cpp divides by the heads of all others.
var headless = []string{"mamba", "mamba2", "rwkv6", "rwkv6qwen2", "rwkv7", "arwkv7", "jamba", "falcon-h1", "plamo2", "granitehybrid", "lfm2", "lfm2moe", "nemotron_h", "nemotron_h_moe",
	"qwen3next", "kimi-linear", "kimi-k3", "bailingmoe3", "glm5-next", "qwen35", "qwen35moe", "qwen4exp", "deepseek4", "minimax-01", "deci", "wavtokenizer-dec", "clip"}

// grouped are the architectures whose states come in groups, by the number of which llama.cpp divides.
var grouped = []string{"mamba2", "falcon-h1", "granitehybrid", "nemotron_h", "nemotron_h_moe", "qwen3next", "qwen35", "qwen35moe"}

// routed are the architectures in which an expert is as wide as feed_forward_length over the experts that a token uses, where
// its own width is missing.
var routed = []string{"glm4moe", "grovemoe", "llada-moe", "mellum", "qwen2moe", "qwen3moe", "qwen3next", "qwen3vlmoe", "qwen35moe", "qwen4exp", "rnd1"}

// checkDivisors wants the numbers that llama.cpp divides by without asking whether they are there.
func (h header) checkDivisors() error {
	for _, d := range []struct {
		key    string
		wanted bool
	}{
		{"attention.head_count", !slices.Contains(headless, h.arch)},
		{"ssm.group_count", slices.Contains(grouped, h.arch)},
		{"experts_per_group", h.arch == "grovemoe"},
		{"expert_used_count", slices.Contains(routed, h.arch) && ofLayer(h.numbers("expert_feed_forward_length"), 0) < 1},
	} {
		if d.wanted && ofLayer(h.numbers(d.key), 0) < 1 {
			return h.keyError(h.key(d.key), "a number from 1 on")
		}
	}
	return nil
}

// checkStacks wants two stacks of blocks to run no more often in turns than there is room for.
func (h header) checkStacks() error {
	high, low := ofLayer(h.numbers("hrm.h_cycles"), 0), ofLayer(h.numbers("hrm.l_cycles"), 0)
	if n := high * (low + 1); n > maxStacks {
		return fmt.Errorf("model %q: keys %q and %q: want at most %d stacks of blocks in a pass, got %.0f", h.Path(), h.key("hrm.h_cycles"), h.key("hrm.l_cycles"), maxStacks, n)
	}
	return nil
}

// checkBlocks wants what a block has to have besides what llama.cpp asks for itself.
func (h header) checkBlocks() error {
	for _, n := range needs {
		if !slices.Contains(n.archs, h.arch) {
			continue
		}
		for _, t := range h.Tensors() {
			block, ok := strings.CutSuffix(t.Name, "."+n.has+".weight")
			if !ok || !strings.HasPrefix(block, "blk.") {
				continue
			}
			if !slices.ContainsFunc(n.one, func(set []string) bool { return h.hasAll(block, set) }) {
				return fmt.Errorf("model %q: block %q: want %s, which a block with %s has in architecture %q", h.Path(), block, anyOf(n.one), n.has, h.arch)
			}
		}
	}
	return nil
}

func (h header) hasAll(block string, set []string) bool {
	return !slices.ContainsFunc(set, func(name string) bool {
		_, ok := h.Tensor(block + "." + name + ".weight")
		return !ok
	})
}

func anyOf(sets [][]string) string {
	var all []string
	for _, set := range sets {
		all = append(all, strings.Join(set, ", "))
	}
	return strings.Join(all, " or ")
}

// checkCache wants keys and values no wider than what the widest tensor of a block has: llama.cpp allocates them by what the
// header says, and not in every architecture does a tensor's shape follow from that.
func (h header) checkCache() error {
	widest := int64(0)
	for _, t := range h.Tensors() {
		if strings.Contains(t.Name, "blk.") { // "enc.blk." too
			widest = max(widest, slices.Max(t.Shape))
		}
	}
	heads := h.fewest("attention.head_count_kv")
	if heads == 0 {
		heads = h.fewest("attention.head_count")
	}
	for _, name := range []string{"attention.key_length", "attention.value_length", "attention.key_length_swa", "attention.value_length_swa"} {
		if n := ofLayer(h.numbers(name), 0); widest > 0 && n*max(heads, 1) > float64(widest) {
			return h.keyError(h.key(name), fmt.Sprintf("at most %d in all %.0f heads, the width of the widest tensor of a block", widest, max(heads, 1)))
		}
	}
	return nil
}

// fewest returns the least of a key's numbers above 0; 0 for none.
func (h header) fewest(name string) (least float64) {
	for _, n := range h.numbers(name) {
		if n > 0 && (least == 0 || n < least) {
			least = n
		}
	}
	return least
}
