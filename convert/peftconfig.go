package convert

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math"
	"regexp"
	"slices"
	"strings"

	"finetune/internal/hint"
)

// peftConfig is what PEFT's adapter_config.json says of the strength of a LoRA and
// of the modules that it is on.
type peftConfig struct {
	path       string
	rank       int
	alpha      float64
	ranks      []pattern // rank_pattern: the first that matches counts
	alphas     []pattern // alpha_pattern
	stabilized bool      // use_rslora: the scale is alpha/√rank, not alpha/rank
	dora       bool      // use_dora: the modules have magnitudes
	targets    selection // target_modules
	excluded   selection // exclude_modules
	layers     []int     // layers_to_transform; nil is all
	saved      []string  // modules_to_save
	task       string    // task_type; empty if it does not say
	baseName   string
	invocation []uint32
}

// pattern is a rule whose expression was compiled.
type pattern struct {
	*regexp.Regexp
	value float64
}

// selection is a list of names, or an expression for whole names. The zero value says
// nothing.
type selection struct {
	names  []string
	regexp *regexp.Regexp
}

const maxRank = 1 << 20

// What PEFT's scale is when the file does not say.
const (
	defaultRank  = 8
	defaultAlpha = 8
)

// instead is the advice for whatever only exists in PEFT.
const instead = "merge it into the base with PEFT's merge_and_unload, and convert the merged model to a GGUF"

// refusals are the settings under which an adapter is neither ΔW = scale·B·A on the base nor a DoRA:
// unless their value is empty, or the harmless one.
var refusals = []struct{ key, harmless, why string }{
	{"bias", "none", "biases were trained along"},
	{"lora_bias", "", "B has a bias"},
	{"trainable_token_indices", "", "embeddings of single tokens were trained along"},
	{"target_parameters", "", "parameters that are no module of their own were adapted"},
	{"layer_replication", "", "layers of the base are repeated"},
	{"use_qalora", "", "QA-LoRA adds up inputs before A"},
	{"use_bdlora", "", "A or B is block-diagonal"},
	{"arrow_config", "", "several adapters are mixed by a router"},
	{"kasa_config", "", "singular values of the weight are changed"},
	{"monteclora_config", "", "the factors are drawn at random"},
}

// plainStarts are the values of init_lora_weights that leave the base as it is. The
// others (PiSSA, OLoRA, CorDA, LoftQ, LoRA-GA) take something out of the base that the
// adapter then brings.
var plainStarts = []string{"true", "false", `"gaussian"`, `"eva"`, `"orthogonal"`}

func readPEFTConfig(dir string) (*peftConfig, error) {
	c, err := readConfig(dir)
	if err != nil {
		return nil, err
	}
	return c.peft()
}

// peft reads the keys of LoraConfig.
func (c *config) peft() (*peftConfig, error) {
	if err := c.refuse(); err != nil {
		return nil, err
	}
	p := &peftConfig{
		path:       c.path,
		rank:       c.whole("r", defaultRank, maxRank),
		alpha:      c.number("lora_alpha", defaultAlpha),
		ranks:      c.patterns("rank_pattern"),
		alphas:     c.patterns("alpha_pattern"),
		stabilized: c.boolean("use_rslora"),
		dora:       c.boolean("use_dora"),
		targets:    c.selection("target_modules"),
		excluded:   c.selection("exclude_modules"),
		layers:     c.layerList("layers_to_transform"),
		baseName:   c.text("base_model_name_or_path"),
		task:       c.text("task_type"),
	}
	c.as("modules_to_save", "a list of names", &p.saved)
	c.boolean("fan_in_fan_out") // how W lies in memory; A and B are the same either way
	c.as("alora_invocation_tokens", "a list of tokens", &p.invocation)
	return p, c.err
}

// refuse reports the first setting that no other format can hold.
func (c *config) refuse() error {
	unsupported := func(format string, args ...any) error {
		return hint.With(&UnsupportedError{c.path, fmt.Sprintf(format, args...)}, instead)
	}
	if kind := c.text("peft_type"); kind != "LORA" && c.err == nil {
		return unsupported("peft_type is %q, want \"LORA\"", kind)
	}
	if saved := c.selection("modules_to_save").names; slices.ContainsFunc(saved, func(name string) bool { return !isHead(name) }) {
		return unsupported("modules_to_save is %.60s: whole modules were trained along", oneLine(c.values["modules_to_save"]))
	}
	for _, r := range refusals {
		if !c.empty(r.key) && !(r.harmless != "" && string(c.values[r.key]) == `"`+r.harmless+`"`) {
			return unsupported("%s is %.60s: %s", r.key, oneLine(c.values[r.key]), r.why)
		}
	}
	if start := string(c.values["init_lora_weights"]); c.has("init_lora_weights") && !slices.Contains(plainStarts, start) {
		err := &UnsupportedError{c.path, fmt.Sprintf("init_lora_weights is %.60s: the adapter is for a base that was changed at the start", start)}
		return hint.With(err, "save_pretrained with path_initial_model_for_weight_conversion writes it for the base as it is")
	}
	return c.err
}

// oneLine is a JSON value without the white space between its parts.
func oneLine(raw []byte) string {
	var b bytes.Buffer
	if json.Compact(&b, raw) != nil {
		return string(raw)
	}
	return b.String()
}

// patterns compiles rules as PEFT matches them: the end of a name, from a dot on.
func (c *config) patterns(key string) []pattern {
	var list []pattern
	for _, r := range c.rules(key) {
		re, err := regexp.Compile(`^(?:.*\.)?(?:` + r.pattern + `)$`)
		if err != nil && c.err == nil {
			c.err = &UnsupportedError{c.path, fmt.Sprintf("%s: %q is no regular expression that this program knows", key, r.pattern)}
		}
		list = append(list, pattern{re, r.value})
	}
	return list
}

// layerList reads one number or a list.
func (c *config) layerList(key string) []int {
	if !c.has(key) {
		return nil
	}
	var one int
	if json.Unmarshal(c.values[key], &one) == nil {
		return []int{one}
	}
	list := []int{}
	c.as(key, "a layer or a list of layers", &list)
	return list
}

// selection reads names or an expression. "all-linear" and expressions that Go does
// not know say nothing: the tensors show which modules there are.
func (c *config) selection(key string) selection {
	var s selection
	var text string
	switch {
	case !c.has(key):
	case json.Unmarshal(c.values[key], &text) != nil:
		c.as(key, "a list of names or an expression", &s.names)
	case text != "all-linear":
		s.regexp, _ = regexp.Compile(`^(?:` + text + `)$`)
	}
	return s
}

// holds reports whether the module is one of the selection, and if not said, otherwise.
func (s selection) holds(module string, otherwise bool) bool {
	switch {
	case s.regexp != nil:
		return s.regexp.MatchString(module)
	case s.names == nil:
		return otherwise
	}
	return slices.ContainsFunc(s.names, func(name string) bool {
		return module == name || strings.HasSuffix(module, "."+name)
	})
}

// targeted reports whether PEFT would put an adapter on the module: it passes over
// tensors of others without a word.
func (p *peftConfig) targeted(module string, layer int) bool {
	if p.layers != nil && !slices.Contains(p.layers, layer) {
		return false
	}
	return p.targets.holds(module, true) && !p.excluded.holds(module, false)
}

// scaleOf returns the rank that a module should have, and its scale.
func (p *peftConfig) scaleOf(module string) (rank int, scale float64, err error) {
	r := valueFor(p.ranks, module, float64(p.rank))
	alpha := valueFor(p.alphas, module, p.alpha)
	if r != math.Trunc(r) || r < 1 || r > maxRank {
		return 0, 0, &FormatError{p.path, fmt.Sprintf("rank_pattern: module %q: rank %v, want a whole number from 1 on", module, r)}
	}
	scale = alpha / r
	if p.stabilized {
		scale = alpha / math.Sqrt(r)
	}
	if alpha == 0 {
		return 0, 0, &FormatError{p.path, fmt.Sprintf("module %q: alpha is 0: the adapter does nothing there", module)}
	}
	if !usable(scale) {
		return 0, 0, &FormatError{p.path, fmt.Sprintf("module %q: alpha is %v, which is no scale that float32 holds", module, alpha)}
	}
	return int(r), scale, nil
}

func valueFor(patterns []pattern, module string, otherwise float64) float64 {
	for _, p := range patterns {
		if p.MatchString(module) {
			return p.value
		}
	}
	return otherwise
}
