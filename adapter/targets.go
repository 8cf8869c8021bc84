package adapter

import (
	"errors"
	"fmt"
	"regexp"
	"regexp/syntax"
	"slices"
	"strings"

	"finetune/gguf"
	"finetune/model"
)

// Modules of the two named targets, by the short name between "blk.N." and
// ".weight". Architectures with fused weights have attn_qkv, or a gate inside
// ffn_up; those of Gemma 4's embeddings by layer are inp_gate and proj; those with
// recurrent layers have the matrices around the state, of which ssm_alpha and
// ssm_beta, a number a head, are too small for most ranks.
var (
	attentionModules = []string{"attn_q", "attn_k", "attn_v", "attn_qkv", "attn_gate", "attn_output"}
	recurrentModules = []string{"ssm_out", "shortconv.in_proj", "shortconv.out_proj"}
	linearModules    = slices.Concat([]string{"ffn_gate", "ffn_up", "ffn_down", "inp_gate", "proj"}, attentionModules, recurrentModules)
)

// The names of the two targets that need no pattern.
const (
	TargetsAttention = "attention"
	TargetsLinear    = "all-linear"
)

// Targets says which weights of a base get an adapter. It may be shared by
// goroutines.
type Targets struct {
	text    string
	modules []string       // of a named target
	pattern *regexp.Regexp // else, anchored at both ends
}

// ParseTargets reads "all-linear" (attention, recurrent and feed-forward matrices),
// "attention", or a regular expression in Go's syntax.
//
// An expression has to match the whole of a name, either the GGUF name
// ("blk\.[0-3]\.attn_q\.weight") or the short one ("attn_q|ffn_down"); it never
// matches by substring. Norms, biases and weights that are not multiplied as a
// matrix are left out even if it matches them. Embeddings and the output head
// cannot be adapted: an expression that matches one of them is an error.
func ParseTargets(s string) (*Targets, error) {
	switch s {
	case "":
		return nil, errors.New(`adapter: targets "": want all-linear, attention or a regular expression`)
	case TargetsLinear:
		return &Targets{text: s, modules: linearModules}, nil
	case TargetsAttention:
		return &Targets{text: s, modules: attentionModules}, nil
	}
	// By itself first: the anchors must not mend a pattern such as "a)|(b".
	if _, err := regexp.Compile(s); err != nil {
		if bad := (*syntax.Error)(nil); errors.As(err, &bad) {
			err = errors.New(bad.Code.String())
		}
		return nil, fmt.Errorf("adapter: targets %q: not a regular expression: %w", s, err)
	}
	re := regexp.MustCompile(`\A(?:` + s + `)\z`)
	t := &Targets{text: s, pattern: re}
	for _, name := range []string{"token_embd.weight", "output.weight"} {
		if t.named(name) {
			return nil, fmt.Errorf("adapter: targets %q: match %q, and adapting the embeddings or the output head is not supported", s, name)
		}
	}
	return t, nil
}

// String returns the text that was parsed.
func (t *Targets) String() string { return t.text }

// Match reports whether the tensor called name is wanted and is, by its name, a
// weight that can be adapted.
func (t *Targets) Match(name string) bool { return adaptable(name) && t.named(name) }

// Select returns the wanted tensors: those that Match and are matrices
// [n_in, n_out]. None is an error, which lists what there is.
func (t *Targets) Select(tensors []gguf.Tensor) ([]gguf.Tensor, error) {
	var chosen []gguf.Tensor
	var exist []string
	for _, tensor := range tensors {
		if !adaptable(tensor.Name) || !isMatrix(tensor) {
			continue
		}
		exist = append(exist, shortName(tensor.Name))
		if t.named(tensor.Name) && (t.pattern != nil || !isHeadGate(tensor)) {
			chosen = append(chosen, tensor)
		}
	}
	if chosen == nil {
		slices.Sort(exist)
		return nil, fmt.Errorf("adapter: targets %q: match no weight, the model has %s", t.text, list(slices.Compact(exist)))
	}
	return chosen, nil
}

// named matches the name alone.
func (t *Targets) named(name string) bool {
	if t.pattern == nil {
		return slices.Contains(t.modules, shortName(name))
	}
	return t.pattern.MatchString(name) || t.pattern.MatchString(shortName(name))
}

// notMultiplied are the weights of blocks that are tables or filters, though some
// have two dimensions.
var notMultiplied = regexp.MustCompile(`norm|rope|conv1d|shortconv\.conv|rel_b`)

// adaptable reports whether name is that of a block's weight which the graph may
// multiply with activations.
func adaptable(name string) bool {
	return model.Block(name) >= 0 && strings.HasSuffix(name, ".weight") && !notMultiplied.MatchString(shortName(name))
}

// isMatrix reports true for two dimensions, neither of them one.
func isMatrix(t gguf.Tensor) bool {
	return len(t.Shape) >= 2 && t.Shape[0] > 1 && t.Shape[1] > 1 && t.Elements() == t.Shape[0]*t.Shape[1]
}

// isHeadGate reports a gate that gives one number a head (Spark 2.5), which is too few for most ranks: no named target takes it.
func isHeadGate(t gguf.Tensor) bool {
	const fewest = 8 // parts of n_in; gates of all channels have n_in or more
	return shortName(t.Name) == "attn_gate" && fewest*t.Shape[1] < t.Shape[0]
}

// shortName returns "attn_q" for "blk.0.attn_q.weight" and "output" for
// "output.weight".
func shortName(name string) string {
	name = strings.TrimSuffix(name, ".weight")
	if model.Block(name) < 0 {
		return name
	}
	_, name, _ = strings.Cut(strings.TrimPrefix(name, "blk."), ".")
	return name
}

func list(names []string) string {
	if len(names) == 0 {
		return "none that can be adapted"
	}
	return strings.Join(names, ", ")
}
