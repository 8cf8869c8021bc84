package model

import (
	"cmp"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"

	"finetune/gguf"
)

// What llama.cpp has room for, or what no model comes near: a larger number is damage, and asks for as much memory.
const (
	maxLayers = 512 // LLAMA_MAX_LAYERS
	maxHeads  = 1 << 14
	maxWidth  = 1 << 20 // of the residual stream, a head or a state
	maxInt32  = math.MaxInt32
)

// How often blocks may run in one pass. llama.cpp has room for 32 or 64 operations a tensor of the file however often the tensor
// is used, and a block with adapters has some 70: with one loop more than 5 of nanbeige's, or 16 of hrm_text's stacks, there is
// none left in a short context. Published models have 2 and 8.
const (
	maxLoops  = 4
	maxStacks = 12
)

// maxToken is the longest text of a token, in bytes: some of llama.cpp's tokenizers build trees by calling themselves for each
// byte. Published models have some hundred.
const maxToken = 1 << 12

// minWindow is the narrowest sliding window that is taken. Published models have 128 and more.
const minWindow = 4

// interval is the numbers that a key of an architecture may have, each of them where it holds one for every layer.
type interval struct {
	key         string // without the architecture
	least, most float64
}

// intervals holds what llama.cpp divides by, allocates, or asserts in the middle of its work.
var intervals = []interval{
	{"block_count", 1, maxLayers},
	{"context_length", 1, maxInt32},
	{"embedding_length", 1, maxWidth},
	{"feed_forward_length", 0, maxInt32},
	{"attention.head_count", 0, maxHeads},
	{"attention.head_count_kv", 0, maxHeads},
	{"attention.key_length", 1, maxWidth},
	{"attention.value_length", 1, maxWidth},
	{"attention.key_length_swa", 1, maxWidth},
	{"attention.value_length_swa", 1, maxWidth},
	{"attention.layer_norm_epsilon", 0, 1},
	{"attention.layer_norm_rms_epsilon", 0, 1},
	{"attention.group_norm_epsilon", 0, 1},
	{"attention.shared_kv_layers", 0, maxLayers},
	{"rope.freq_base", math.SmallestNonzeroFloat32, math.MaxFloat32},
	{"rope.freq_base_swa", math.SmallestNonzeroFloat32, math.MaxFloat32},
	{"rope.scaling.original_context_length", 0, maxInt32},
	{"pooling_type", -1, 4}, // LLAMA_POOLING_TYPE_RANK
	{"full_attention_interval", 1, maxInt32},
	{"num_loops", 1, maxLoops},
	{"hrm.layers_per_stack", 1, maxLayers},
	{"hrm.h_cycles", 1, maxLayers},
	{"hrm.l_cycles", 1, maxLayers},
	{"shortconv.l_cache", 2, maxWidth},
	{"ssm.conv_kernel", 1, maxWidth},
	{"ssm.inner_size", 1, maxWidth},
	{"ssm.state_size", 1, maxWidth},
	{"ssm.time_step_rank", 1, maxWidth},
	{"wkv.head_size", 1, maxWidth},
	{"kda.head_dim", 1, maxWidth},
}

// needed are the keys without which there is no model of any architecture.
var needed = []string{"block_count", "context_length", "embedding_length"}

// header judges the header of one file.
type header struct {
	*gguf.File
	arch string
}

// checkHeader refuses what would end the process in llama.cpp, or in the engine that repeats its graph, instead of being an
// error there. Keys and tensors that are not there are left to llama.cpp, which names them.
func checkHeader(f *gguf.File) error {
	h := header{f, f.Architecture()}
	if h.arch == "" {
		return h.keyError("general.architecture", "the name of an architecture")
	}
	for _, check := range []func() error{h.checkNumbers, h.checkHeads, h.checkRotation, h.checkWindow, h.checkVocabulary, h.checkTensors} {
		if err := check(); err != nil {
			return err
		}
	}
	return nil
}

// checkWhole refuses a file without what every whole model has, or every one of its architecture.
func checkWhole(f *gguf.File) error {
	h := header{f, f.Architecture()}
	if _, ok := f.Tensor("token_embd.weight"); !ok {
		return fmt.Errorf("model %q: holds no weights (no tensor \"token_embd.weight\"), want a whole model", f.Path())
	}
	for _, name := range needed {
		if _, ok := f.Get(h.key(name)); ok {
			continue
		}
		if other := h.elsewhere(name); other != "" {
			return fmt.Errorf("model %q: key %q: want one of architecture %q, which \"general.architecture\" names, got %q", f.Path(), name, h.arch, other)
		}
		return h.keyError(h.key(name), "a number")
	}
	if err := h.checkDivisors(); err != nil {
		return err
	}
	if err := h.checkBlocks(); err != nil {
		return err
	}
	if err := h.checkStacks(); err != nil {
		return err
	}
	return h.checkCache()
}

func (h header) key(name string) string { return h.arch + "." + name }

// elsewhere returns the key of that name of another architecture, "" for none.
func (h header) elsewhere(name string) string {
	for _, kv := range h.KVs() {
		if strings.HasSuffix(kv.Key, "."+name) {
			return kv.Key
		}
	}
	return ""
}

// keyError says what a key should hold, and what it does.
func (h header) keyError(key, want string) error {
	v, ok := h.Get(key)
	if !ok {
		return fmt.Errorf("model %q: key %q: missing, want %s", h.Path(), key, want)
	}
	got := fmt.Sprint(v)
	if s, ok := v.(string); ok {
		got = strconv.Quote(s[:min(len(s), 40)])
	}
	return fmt.Errorf("model %q: key %q: want %s, got %s", h.Path(), key, want, got)
}

// numbers returns the number or the numbers of a key, in the order of the layers where it has one for each; nil where it is
// missing or holds others.
func (h header) numbers(name string) []float64 {
	v, _ := h.Get(h.key(name))
	return toNumbers(v)
}

func toNumbers(v gguf.Value) []float64 {
	switch v := v.(type) {
	case uint8:
		return []float64{float64(v)}
	case int8:
		return []float64{float64(v)}
	case uint16:
		return []float64{float64(v)}
	case int16:
		return []float64{float64(v)}
	case uint32:
		return []float64{float64(v)}
	case int32:
		return []float64{float64(v)}
	case uint64:
		return []float64{float64(v)}
	case int64:
		return []float64{float64(v)}
	case float32:
		return []float64{float64(v)}
	case float64:
		return []float64{v}
	case gguf.Array:
		switch s := v.Values().(type) {
		case []uint8:
			return widened(s)
		case []int8:
			return widened(s)
		case []uint16:
			return widened(s)
		case []int16:
			return widened(s)
		case []uint32:
			return widened(s)
		case []int32:
			return widened(s)
		case []uint64:
			return widened(s)
		case []int64:
			return widened(s)
		case []float32:
			return widened(s)
		case []float64:
			return s
		}
	}
	return nil
}

func widened[T uint8 | int8 | uint16 | int16 | uint32 | int32 | uint64 | int64 | float32](s []T) []float64 {
	w := make([]float64, len(s))
	for i, x := range s {
		w[i] = float64(x)
	}
	return w
}

// checkNumbers holds the keys against intervals, and all of the architecture's against NaN.
func (h header) checkNumbers() error {
	for _, r := range intervals {
		if _, ok := h.Get(h.key(r.key)); !ok {
			continue
		}
		all := h.numbers(r.key)
		outside := func(x float64) bool { return !(x >= r.least && x <= r.most) } // NaN too
		if len(all) == 0 || slices.ContainsFunc(all, outside) {
			return h.keyError(h.key(r.key), "a number"+r.String())
		}
	}
	for _, kv := range h.KVs() {
		if strings.HasPrefix(kv.Key, h.arch+".") && slices.ContainsFunc(toNumbers(kv.Value), math.IsNaN) {
			return h.keyError(kv.Key, "numbers")
		}
	}
	return nil
}

// String says the interval in words: " from 1 to 512".
func (r interval) String() string {
	switch {
	case r.most < math.MaxFloat32:
		return fmt.Sprintf(" from %g to %.0f", r.least, r.most)
	case r.least == math.SmallestNonzeroFloat32:
		return " above 0"
	}
	return fmt.Sprintf(" from %g on", r.least)
}

// checkHeads wants whole groups of query heads over each head of keys, in every layer that has both.
func (h header) checkHeads() error {
	queries, keys := h.numbers("attention.head_count"), h.numbers("attention.head_count_kv")
	for i := range max(len(queries), len(keys)) {
		q, k := ofLayer(queries, i), ofLayer(keys, i)
		if q > 0 && k > 0 && math.Mod(q, k) != 0 {
			return h.keyError(h.key("attention.head_count_kv"), fmt.Sprintf("a divisor of the %.0f query heads in layer %d", q, i))
		}
	}
	return nil
}

// ofLayer returns the number of a layer, the only one where all have the same, and 0 where there is none.
func ofLayer(all []float64, i int) float64 {
	switch {
	case len(all) == 1:
		return all[0]
	case i < len(all):
		return all[i]
	}
	return 0
}

// headWidth returns the width of a head of keys in layers with a sliding window (suffix "_swa") or without (""), as llama.cpp
// finds it; 0 where the model has no heads.
func (h header) headWidth(suffix string) float64 {
	heads := ofLayer(h.numbers("attention.head_count"), 0)
	if heads == 0 {
		return 0
	}
	for _, name := range []string{"attention.key_length" + suffix, "attention.key_length"} {
		if n := h.numbers(name); len(n) == 1 {
			return n[0]
		}
	}
	return math.Floor(ofLayer(h.numbers("embedding_length"), 0) / heads)
}

// checkRotation wants rotary positions to turn pairs of channels of a head.
func (h header) checkRotation() error {
	for _, suffix := range []string{"", "_swa"} {
		name, width := "rope.dimension_count"+suffix, h.headWidth(suffix)
		if width == 0 {
			continue
		}
		least := 2.0 // of 0 pairs ggml's loop over them has no end
		if h.arch == "glm5-next" {
			least = 0 // has no rotation
		}
		bad := func(n float64) bool { return n < least || n > width || math.Mod(n, 2) != 0 }
		if slices.ContainsFunc(h.numbers(name), bad) {
			return h.keyError(h.key(name), fmt.Sprintf("an even number from %.0f to %.0f, the width of a head", least, width))
		}
		_, ok := h.Get(h.key(name))
		if !ok && suffix == "" && h.rotatesOdd(width) {
			return fmt.Errorf("model %q: key %q: missing, want an even number, got heads of %.0f channels", h.Path(), h.key(name), width)
		}
		if all := cmp.Or(ofLayer(h.numbers("rope.dimension_count"), 0), h.headWidth("")); !ok && all > width { // which then rotates here too
			return fmt.Errorf("model %q: key %q: missing, want an even number up to %.0f, the width of a head, got %.0f from other layers", h.Path(), h.key(name), width, all)
		}
	}
	return h.checkSections()
}

// rotatesOdd reports whether llama.cpp would rotate all of a head that has no pairs. Architectures with positions of another
// kind have no key of the rotation.
func (h header) rotatesOdd(width float64) bool {
	_, rotary := h.Get(h.key("rope.freq_base"))
	return rotary && math.Mod(width, 2) != 0
}

// checkSections wants the shares of the rotated pairs that follow time, height and width to be some, and no more than fit.
func (h header) checkSections() error {
	const name = "rope.dimension_sections"
	if _, ok := h.Get(h.key(name)); !ok {
		return nil
	}
	sum, negative := 0.0, false
	for _, n := range h.numbers(name) {
		sum, negative = sum+n, negative || n < 0
	}
	if width := h.headWidth(""); negative || sum <= 0 || width > 0 && sum > width {
		got, _ := h.Ints(h.key(name))
		return fmt.Errorf("model %q: key %q: want shares of a head's %.0f channels, got %v", h.Path(), h.key(name), width, got)
	}
	return nil
}

// checkWindow wants a sliding window that reaches some tokens back; 0 is none.
func (h header) checkWindow() error {
	const name = "attention.sliding_window"
	for _, n := range h.numbers(name) {
		if n != 0 && !(n >= minWindow && n <= maxInt32) {
			return h.keyError(h.key(name), fmt.Sprintf("a window of %d tokens or more, or 0 for none", minWindow))
		}
	}
	return nil
}

// checkVocabulary wants texts for tokens, as many scores and types, and texts for merge rules.
func (h header) checkVocabulary() error {
	const list = "tokenizer.ggml.tokens"
	if _, ok := h.Get(list); !ok {
		return nil
	}
	tokens, err := h.Strings(list)
	if err != nil || len(tokens) == 0 {
		return h.keyError(list, "an array of one or more strings")
	}
	for i, token := range tokens {
		if len(token) > maxToken {
			return fmt.Errorf("model %q: key %q: want tokens of at most %d bytes, got %d for token %d", h.Path(), list, maxToken, len(token), i)
		}
	}
	for _, r := range []struct {
		key   string
		kinds []gguf.Kind
	}{
		{"tokenizer.ggml.scores", []gguf.Kind{gguf.KindFloat32, gguf.KindInt32}},
		{"tokenizer.ggml.token_type", []gguf.Kind{gguf.KindInt32}},
	} {
		v, ok := h.Get(r.key)
		if !ok {
			continue
		}
		if a, ok := v.(gguf.Array); !ok || !slices.Contains(r.kinds, a.Kind()) || a.Len() < len(tokens) {
			return h.keyError(r.key, fmt.Sprintf("an array of %s, one for each of the %d tokens", r.kinds[0], len(tokens)))
		}
	}
	if v, ok := h.Get("tokenizer.ggml.merges"); ok {
		if a, ok := v.(gguf.Array); !ok || a.Kind() != gguf.KindString {
			return h.keyError("tokenizer.ggml.merges", "an array of strings")
		}
	}
	return nil
}
