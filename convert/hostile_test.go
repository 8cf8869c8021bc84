package convert

import (
	"bytes"
	"encoding/json"
	"errors"
	"maps"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"finetune/adapter"
	"finetune/convert/safetensors"
	"finetune/gguf"
	"finetune/internal/hint"
)

// kind is what an error should be.
type kind int

const (
	damaged kind = iota // *FormatError, of this package or of one that reads files
	refused             // *UnsupportedError, with a hint what to do instead
)

// checkRefused runs a conversion that has to fail, and looks for what it left behind.
func checkRefused(t *testing.T, c Config, k kind, want string) {
	t.Helper()
	dir := t.TempDir()
	c.Out = filepath.Join(dir, "out")
	_, err := Run(c)
	var ours *FormatError
	var tensors *safetensors.FormatError
	var unsupported *UnsupportedError
	var file *gguf.FormatError
	var cut *gguf.TruncatedError
	switch {
	case err == nil || !strings.Contains(err.Error(), want):
		t.Errorf("Run = %v, want an error with %q", err, want)
	case k == damaged && !errors.As(err, &ours) && !errors.As(err, &tensors) && !errors.As(err, &file) && !errors.As(err, &cut):
		t.Errorf("Run = %v (%T), want a *FormatError", err, err)
	case k == refused && !errors.As(err, &unsupported):
		t.Errorf("Run = %v (%T), want an *UnsupportedError", err, err)
	case k == refused && len(hint.Of(err)) == 0:
		t.Errorf("Run = %v, without a hint what to do instead", err)
	case strings.Contains(err.Error(), "\n"):
		t.Errorf("Run = %q, want one line", err)
	}
	if left, _ := os.ReadDir(dir); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
}

func TestPEFTSettingsThatAreRefused(t *testing.T) {
	model := tinyLlama(t)
	m := mustModel(t, model)
	type settings = map[string]any
	for name, tt := range map[string]struct {
		config settings
		kind   kind
		want   string
	}{
		"DoRA without magnitudes":  {settings{"use_dora": true}, damaged, "adapter_config.json says use_dora, and its lora_magnitude_vector is missing"},
		"DoRA as a word":           {settings{"use_dora": "yes"}, damaged, `use_dora is "yes", want true or false`},
		"modules_to_save":          {settings{"modules_to_save": []string{"lm_head"}}, refused, `modules_to_save is ["lm_head"]`},
		"bias":                     {settings{"bias": "all"}, refused, `bias is "all"`},
		"bias of B":                {settings{"lora_bias": true}, refused, "lora_bias"},
		"tokens":                   {settings{"trainable_token_indices": []int{1}}, refused, "trainable_token_indices"},
		"parameters":               {settings{"target_parameters": []string{"experts.gate_up_proj"}}, refused, "target_parameters"},
		"repeated layers":          {settings{"layer_replication": [][]int{{0, 2}}}, refused, "layer_replication"},
		"another method":           {settings{"peft_type": "LOHA"}, refused, `peft_type is "LOHA"`},
		"no method":                {settings{"peft_type": nil}, refused, `peft_type is ""`},
		"PiSSA":                    {settings{"init_lora_weights": "pissa_niter_16"}, refused, "a base that was changed"},
		"LoftQ":                    {settings{"init_lora_weights": "loftq"}, refused, "a base that was changed"},
		"a start of the future":    {settings{"init_lora_weights": "magic"}, refused, "a base that was changed"},
		"rank of other tensors":    {settings{"r": 8}, damaged, "factors of rank 4, adapter_config.json says 8"},
		"rank_pattern that lies":   {settings{"rank_pattern": settings{"v_proj": 3}}, damaged, "factors of rank 4, adapter_config.json says 3"},
		"no rank":                  {settings{"r": 0}, damaged, "r is 0, want a whole number"},
		"broken rank":              {settings{"r": 4.5}, damaged, "r is 4.5, want a whole number"},
		"rank in words":            {settings{"r": "four"}, damaged, `r is "four", want a number`},
		"no alpha":                 {settings{"lora_alpha": 0}, damaged, "alpha is 0: the adapter does nothing"},
		"alpha beyond float32":     {settings{"lora_alpha": 1e300}, damaged, "no scale that float32 holds"},
		"alpha in words":           {settings{"lora_alpha": []int{1}}, damaged, "lora_alpha is [1]"},
		"alpha_pattern in words":   {settings{"alpha_pattern": settings{"q_proj": "much"}}, damaged, "alpha_pattern is"},
		"alpha_pattern as a list":  {settings{"alpha_pattern": []int{1}}, damaged, "want an object of numbers"},
		"rank_pattern of halves":   {settings{"rank_pattern": settings{"q_proj": 0.5}}, damaged, "rank 0.5, want a whole number"},
		"rank_pattern with a half": {settings{"rank_pattern": settings{"q_proj": 4.5}}, damaged, "rank 4.5, want a whole number"},
		"rank_pattern of nothing":  {settings{"rank_pattern": settings{"q_proj": 0}}, damaged, "rank 0, want a whole number"},
		"rank_pattern too large":   {settings{"rank_pattern": settings{"q_proj": maxRank + 1}}, damaged, "rank 1.048577e+06, want a whole number"},
		"other targets":            {settings{"target_modules": []string{"q_proj"}}, damaged, "adapter_config.json does not target it"},
		"targets that match less":  {settings{"target_modules": `.*\.q_proj`}, damaged, "does not target it"},
		"other layers":             {settings{"layers_to_transform": []int{0}}, damaged, "does not target it"},
		"another layer":            {settings{"layers_to_transform": 1}, damaged, "does not target it"},
		"excluded modules":         {settings{"exclude_modules": []string{"q_proj"}}, damaged, `self_attn.q_proj": has factors, but adapter_config.json does not target it`},
		"excluded as well as not":  {settings{"target_modules": "all-linear", "exclude_modules": []string{"mlp.down_proj"}}, damaged, `mlp.down_proj": has factors, but`},
		"excluded by expression":   {settings{"exclude_modules": `.*\.1\..*`}, damaged, `layers.1.mlp.down_proj": has factors, but`},
		"layers in words":          {settings{"layers_to_transform": "all"}, damaged, `layers_to_transform is "all", want a layer or a list of layers`},
		"targets as a number":      {settings{"target_modules": 7}, damaged, "target_modules is 7"},
		"switch as a word":         {settings{"use_rslora": "yes"}, damaged, `use_rslora is "yes", want true or false`},
		"fan_in_fan_out as a word": {settings{"fan_in_fan_out": "no"}, damaged, "want true or false"},
	} {
		t.Run(name, func(t *testing.T) {
			f := peftFolder(m, 4, func(mod module) bool { return mod.layer >= 0 })
			maps.Copy(f.config, tt.config)
			checkRefused(t, Config{From: f.write(t), To: GGUF, Model: model}, tt.kind, tt.want)
		})
	}
	// A look-ahead: Python knows it, Go does not. Of targets it is not needed, of alphas it is.
	f := peftFolder(m, 4, everySite)
	f.config["target_modules"] = `(?=.*proj).*`
	mustRun(t, f.write(t), GGUF, model)
	f.config["alpha_pattern"] = settings{`(?=.*proj).*`: 3}
	_, err := Run(Config{From: f.write(t), To: GGUF, Model: model, Out: filepath.Join(t.TempDir(), "x")})
	if unsupported := (*UnsupportedError)(nil); !errors.As(err, &unsupported) {
		t.Errorf("Run with a look-ahead = %v, want an *UnsupportedError", err)
	}
}

// Settings that change nothing about ΔW pass.
func TestPEFTSettingsThatPass(t *testing.T) {
	model := tinyLlama(t)
	m := mustModel(t, model)
	want, _ := mustRun(t, peftFolder(m, 4, everySite).write(t), GGUF, model)
	f := peftFolder(m, 4, everySite)
	maps.Copy(f.config, map[string]any{"bias": "none", "modules_to_save": []string{}, "use_dora": false, "target_parameters": nil, "loftq_config": map[string]any{},
		"init_lora_weights": "gaussian", "fan_in_fan_out": true, "lora_dropout": 0.1, "target_modules": "all-linear", "r": 4.0, "something_new": true,
		"layers_to_transform": nil, "layer_replication": nil, "eva_config": nil, "exclude_modules": []string{"vision_tower"}})
	f.shapes[peftPrefix+"model.embed_tokens.base_layer.weight"] = []int64{8, 64} // of the base
	got, _ := mustRun(t, f.write(t), GGUF, model)
	sameTensors(t, got, want)
}

func TestPEFTTensorsThatAreRefused(t *testing.T) {
	model := tinyLlama(t)
	m := mustModel(t, model)
	const q = peftPrefix + "model.layers.0.self_attn.q_proj"
	for name, tt := range map[string]struct {
		change func(f folder)
		kind   kind
		want   string
	}{
		"half a pair":         {func(f folder) { delete(f.shapes, q+".lora_B.weight") }, damaged, "A or B is missing"},
		"other prefix":        {func(f folder) { f.shapes["model.x.lora_A.weight"] = []int64{4, 64} }, damaged, "is no matrix of the model that an adapter can be on"},
		"adapter's name":      {func(f folder) { f.shapes[q+".lora_A.default.weight"] = []int64{4, 64} }, damaged, "another one has that name too, but for its prefixes"},
		"DoRA":                {func(f folder) { f.shapes[q+".lora_magnitude_vector"] = []int64{64} }, damaged, "has a lora_magnitude_vector, and adapter_config.json does not say use_dora"},
		"bias of B":           {func(f folder) { f.shapes[q+".lora_B.bias"] = []int64{64} }, refused, "is a bias of B"},
		"bias":                {func(f folder) { f.shapes[q+".bias"] = []int64{64} }, refused, "a bias that was trained"},
		"a whole weight":      {func(f folder) { f.shapes[peftPrefix+"lm_head.weight"] = []int64{8, 64} }, refused, "a whole weight that was trained"},
		"convolution":         {func(f folder) { f.shapes[q+".lora_A.weight"] = []int64{4, 64, 1, 1} }, damaged, "want a matrix"},
		"three dimensions":    {func(f folder) { f.shapes[q+".lora_A.weight"] = []int64{1, 4, 64} }, damaged, "want a matrix"},
		"nothing":             {func(f folder) { f.shapes[q+".lora_A.weight"] = []int64{0, 64} }, damaged, "want a matrix"},
		"other input":         {func(f folder) { f.shapes[q+".lora_A.weight"] = []int64{4, 32} }, damaged, "A is [4 32] and B [64 4], want [rank 64] and [64 rank]"},
		"other output":        {func(f folder) { f.shapes[q+".lora_B.weight"] = []int64{32, 4} }, damaged, "A is [4 64] and B [32 4]"},
		"ranks that disagree": {func(f folder) { f.shapes[q+".lora_B.weight"] = []int64{64, 3} }, damaged, "A is [4 64] and B [64 3]"},
		"layer too many":      {func(f folder) { f.add("model.layers.3.self_attn.q_proj", 4, m.modules[2]) }, damaged, "the model that an adapter can be on"},
		"module of elsewhere": {func(f folder) { f.add("transformer.h.0.attn.c_attn", 4, m.modules[2]) }, damaged, "the model that an adapter can be on"},
		"a way up":            {func(f folder) { f.add("../../../../etc/passwd", 4, m.modules[2]) }, damaged, "the model that an adapter can be on"},
		"two names of one":    {func(f folder) { f.add(wrapperNew+"layers.0.self_attn.q_proj", 4, m.modules[2]) }, damaged, "other modules are called"},
		"two names of a head": {func(f folder) {
			clear(f.shapes)
			f.add("lm_head", 4, m.modules[1])
			f.add("language_model.lm_head", 4, m.modules[1])
		}, damaged, "comes twice"},
		"nothing at all": {func(f folder) { clear(f.shapes) }, damaged, "has no factors"},
	} {
		t.Run(name, func(t *testing.T) {
			f := peftFolder(m, 4, everySite)
			tt.change(f)
			checkRefused(t, Config{From: f.write(t), To: GGUF, Model: model}, tt.kind, tt.want)
		})
	}
}

// Gemma 4 projects its embeddings by layer without asking for an adapter; PEFT's all-linear is on that matrix too.
func TestModulesThatLlamaAdaptsNotAreNamed(t *testing.T) {
	model := everyModel(t)["gemma4"]
	m := mustModel(t, model)
	for _, name := range []string{"model.per_layer_model_projection", wrapperNew + "per_layer_model_projection"} {
		f := peftFolder(m, 4, func(module) bool { return false })
		f.add(name, 4, m.modules[m.byName["model.layers.0.self_attn.q_proj"]])
		checkRefused(t, Config{From: f.write(t), To: GGUF, Model: model}, refused, name+`": llama.cpp applies no adapter there`)
	}
}

// Numbers that are none, in each type and on either way.
func TestNotFinite(t *testing.T) {
	model := tinyLlama(t)
	m := mustModel(t, model)
	for dtype, bad := range map[safetensors.DType][][]byte{
		safetensors.F32:  {{0, 0, 0xc0, 0x7f}, {0, 0, 0x80, 0x7f}, {0, 0, 0x80, 0xff}, {1, 0, 0x80, 0x7f}},
		safetensors.F16:  {{0, 0x7c}, {0, 0xfc}, {1, 0x7e}},
		safetensors.BF16: {{0x80, 0x7f}, {0x80, 0xff}, {0xc0, 0x7f}},
	} {
		for _, element := range bad {
			f := peftFolder(m, 4, func(mod module) bool { return strings.HasSuffix(mod.name, "1.self_attn.v_proj") })
			f.dtype = dtype
			peft := f.write(t)
			weights := filepath.Join(peft, peftWeights)
			file := readFile(t, weights)
			copy(file[len(file)-len(element):], element)
			writeFile(t, weights, file)
			for _, to := range []Format{GGUF, MLX} {
				checkRefused(t, Config{From: peft, To: to, Model: model}, damaged, "lora_B.weight\": element 127 is")
			}
		}
	}
	lora, _ := mustRun(t, peftFolder(m, 4, everySite).write(t), GGUF, model)
	file := readFile(t, lora)
	copy(file[len(file)-4:], f32(float32(math.NaN())))
	writeFile(t, lora, file)
	checkRefused(t, Config{From: lora, To: PEFT, Model: model}, damaged, "is NaN")
}

// Cut anywhere, or with a wrong length, a file is refused.
func TestFilesCutShort(t *testing.T) {
	model := tinyLlama(t)
	m := mustModel(t, model)
	peft := peftFolder(m, 4, func(mod module) bool { return mod.layer == 0 }).write(t)
	weights := filepath.Join(peft, peftWeights)
	whole := readFile(t, weights)
	header := 8 + int(whole[0]) + int(whole[1])<<8
	for _, n := range []int{0, 7, 8, 100, header - 1, header, header + 3, len(whole) - 1} {
		writeFile(t, weights, whole[:n])
		checkRefused(t, Config{From: peft, To: GGUF, Model: model}, damaged, peftWeights)
	}
	for _, length := range []byte{0, 1, 0xff} {
		changed := bytes.Clone(whole)
		changed[7] = length << 4
		changed[0]++
		writeFile(t, weights, changed)
		checkRefused(t, Config{From: peft, To: GGUF, Model: model}, damaged, peftWeights)
	}
	writeFile(t, weights, whole)
	for text, want := range map[string]string{"": "is no JSON object", "null": "is no JSON object", "[1]": "is no JSON object",
		`{"r": NaN}`: "is no JSON object", `{"peft_type": "LORA"`: "is no JSON object", strings.Repeat("[", 1<<20): "is no JSON object"} {
		writeFile(t, filepath.Join(peft, configFile), []byte(text))
		checkRefused(t, Config{From: peft, To: GGUF, Model: model}, damaged, want)
	}
	lora, _ := mustRun(t, peftFolder(m, 4, everySite).write(t), GGUF, model)
	file := readFile(t, lora)
	for _, n := range []int{0, 10, 500, len(file) - 1} {
		writeFile(t, lora, file[:n])
		checkRefused(t, Config{From: lora, To: PEFT, Model: model}, damaged, "")
	}
}

// ggufAdapter changes the keys and tensors of a good GGUF LoRA.
func ggufAdapter(t *testing.T, from string, keys map[string]any, add map[string][]int64, drop ...string) string {
	t.Helper()
	f, err := gguf.Open(from)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	b := gguf.NewBuilder()
	for _, kv := range f.KVs() {
		if v, ok := keys[kv.Key]; !ok || v != nil {
			b.Set(kv.Key, kv.Value)
		}
	}
	for key, v := range keys {
		if v != nil {
			b.Set(key, v)
		}
	}
	for _, tensor := range f.Tensors() {
		if !slices.Contains(drop, tensor.Name) && add[tensor.Name] == nil {
			b.CopyTensor(f, tensor.Name)
		}
	}
	for name, shape := range add {
		n := 1
		for _, m := range shape {
			n *= int(m)
		}
		b.AddTensor(name, gguf.TypeF32, shape, f32(noise(name, n)...))
	}
	path := filepath.Join(t.TempDir(), "changed.gguf")
	if err := b.WriteFile(path); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestGGUFAdaptersThatAreRefused(t *testing.T) {
	model := tinyLlama(t)
	m := mustModel(t, model)
	lora, _ := mustRun(t, peftFolder(m, 4, everySite).write(t), GGUF, model)
	const q = "blk.0.attn_q.weight"
	for name, tt := range map[string]struct {
		keys map[string]any
		add  map[string][]int64
		drop string
		kind kind
		want string
	}{
		"Dual LoRA":            {keys: map[string]any{"adapter.type": "dual_lora"}, kind: refused, want: "holds dual-lora as it is trained"},
		"a model":              {keys: map[string]any{"general.type": "model"}, kind: damaged, want: `general.type is "model"`},
		"another architecture": {keys: map[string]any{"general.architecture": "qwen2"}, kind: damaged, want: `made for architecture "qwen2", the model is "llama"`},
		"alpha that is none":   {keys: map[string]any{adapter.KeyAlpha: float32(math.NaN())}, kind: damaged, want: "alpha is NaN"},
		"alpha without end":    {keys: map[string]any{adapter.KeyAlpha: float32(math.Inf(-1))}, kind: damaged, want: "alpha is -Inf"},
		"half a pair":          {drop: q + ".lora_b", kind: damaged, want: "lora_a or lora_b is missing"},
		"other tensor":         {add: map[string][]int64{"blk.7.attn_q.weight.lora_a": {64, 4}}, kind: damaged, want: `the model has no "blk.7.attn_q.weight"`},
		"no suffix":            {add: map[string][]int64{q: {64, 4}}, kind: damaged, want: "ends in .lora_a or .lora_b"},
		"no dot":               {add: map[string][]int64{"x": {64, 4}}, kind: damaged, want: "ends in .lora_a or .lora_b"},
		"other input":          {add: map[string][]int64{q + ".lora_a": {32, 4}}, kind: damaged, want: "for other shapes than the model's [64 64]"},
		"other rank":           {add: map[string][]int64{q + ".lora_a": {64, 5}}, kind: damaged, want: "for other shapes"},
		"experts of one":       {add: map[string][]int64{q + ".lora_a": {64, 4, 2}, q + ".lora_b": {4, 64, 2}}, kind: damaged, want: "for other shapes"},
		"four dimensions":      {add: map[string][]int64{q + ".lora_a": {8, 8, 2, 2}}, kind: damaged, want: "want a matrix"},
		"a table of experts":   {add: map[string][]int64{"token_embd.weight.lora_a": {4, 3, 2}}, kind: damaged, want: "for other shapes"},
		"a token below 0":      {keys: map[string]any{adapter.KeyInvocation: []int32{-1}}, kind: damaged, want: "-1 is no token"},
	} {
		t.Run(name, func(t *testing.T) {
			path := ggufAdapter(t, lora, tt.keys, tt.add, tt.drop)
			checkRefused(t, Config{From: path, To: PEFT, Model: model}, tt.kind, tt.want)
		})
	}
	t.Run("a norm", func(t *testing.T) { // adapter_type is valid, but llama.cpp would refuse or ignore it
		path := ggufAdapter(t, lora, nil, map[string][]int64{"blk.0.attn_norm.weight": {64}})
		_, r := mustRun(t, path, PEFT, model)
		if len(r.Notes) == 0 || !strings.Contains(r.Notes[0], "left out") {
			t.Errorf("notes %q, want one that says what was left out", r.Notes)
		}
	})
	t.Run("a tensor that no module is known for", func(t *testing.T) {
		path := ggufAdapter(t, lora, nil, map[string][]int64{"output_norm.weight.lora_a": {64, 1}})
		_, err := Run(Config{From: path, To: PEFT, Model: model, Out: filepath.Join(t.TempDir(), "x")})
		if unsupported := (*UnsupportedError)(nil); !errors.As(err, &unsupported) {
			t.Errorf("Run = %v, want an *UnsupportedError", err)
		}
	})
}

// Notes on folding that lie make no difference but to B, which is multiplied back only
// by what changes no bit of the effect.
func TestFoldingNotesThatLie(t *testing.T) {
	model := tinyLlama(t)
	m := mustModel(t, model)
	lora, _ := mustRun(t, peftFolder(m, 4, everySite).write(t), GGUF, model)
	want := deltas(t, lora, m)
	for _, factor := range []float32{0, -1, 3, float32(math.NaN()), float32(math.Inf(1)), math.MaxFloat32, 0x1p-140, 0.25} {
		path := ggufAdapter(t, lora, map[string]any{keyFolded: []string{"blk.0.attn_q.weight", "none", ""}, keyFoldFactors: []float32{factor, factor}}, nil)
		sameDeltas(t, deltas(t, path, m), want)
	}
	path := ggufAdapter(t, lora, map[string]any{keyFolded: "text", keyFoldFactors: uint32(7)}, nil)
	sameDeltas(t, deltas(t, path, m), want)
}

// A head that shares the embeddings' weights.
func TestTiedHead(t *testing.T) {
	for _, arch := range []string{"gemma", "command-r"} {
		model := everyModel(t)[arch]
		m := mustModel(t, model)
		for _, name := range []string{"lm_head", "model.embed_tokens"} {
			f := peftFolder(m, 4, func(mod module) bool { return mod.layer == 0 })
			mod := m.modules[slices.IndexFunc(m.modules, func(mod module) bool { return mod.embedding })]
			mod.embedding = name != "lm_head"
			f.add(name, 4, mod)
			checkRefused(t, Config{From: f.write(t), To: GGUF, Model: model}, refused, "the head is the embeddings")
			checkRefused(t, Config{From: f.write(t), To: MLX, Model: model}, refused, "the head is the embeddings")
			mlx := folder{mlxWeights, safetensors.F32, map[string][]int64{name + ".lora_a": {int64(mod.in), 4}, name + ".lora_b": {4, int64(mod.out)}},
				map[string]any{"fine_tune_type": "lora", "lora_parameters": map[string]any{"scale": 20.0}}}
			checkRefused(t, Config{From: mlx.write(t), To: GGUF, Model: model}, refused, "the head is the embeddings")
		}
	}
}

func TestMLXFoldersThatAreRefused(t *testing.T) {
	model := tinyLlama(t)
	parameters := func(v any) map[string]any { return map[string]any{"lora_parameters": v} }
	for name, tt := range map[string]struct {
		config map[string]any
		shapes map[string][]int64
		kind   kind
		want   string
	}{
		"DoRA":               {config: map[string]any{"fine_tune_type": "dora"}, kind: refused, want: `fine_tune_type is "dora"`},
		"all weights":        {config: map[string]any{"fine_tune_type": "full"}, kind: refused, want: `fine_tune_type is "full"`},
		"no parameters":      {config: parameters(nil), kind: damaged, want: "scale is missing, want a number"},
		"parameters as list": {config: parameters([]int{1}), kind: damaged, want: "lora_parameters is [1], want an object"},
		"no scale":           {config: parameters(map[string]any{"rank": 4}), kind: damaged, want: "want a number other than 0"},
		"scale of 0":         {config: parameters(map[string]any{"scale": 0}), kind: damaged, want: "scale is 0"},
		"scale in words":     {config: parameters(map[string]any{"scale": "20"}), kind: damaged, want: `scale is "20", want a number`},
		"scale too large":    {config: parameters(map[string]any{"scale": 1e300}), kind: damaged, want: "scale is 1e+300"},
		"other keys":         {config: parameters(map[string]any{"scale": 2, "keys": []string{"self_attn.v_proj"}}), kind: damaged, want: "does not name it"},
		"fewer layers":       {config: map[string]any{"num_layers": 1}, kind: damaged, want: "does not name it"},
		"DoRA's magnitude":   {shapes: map[string][]int64{"model.layers.0.self_attn.q_proj.m": {64}}, kind: refused, want: "want a name that ends in .lora_a"},
		"half a pair":        {shapes: map[string][]int64{"model.layers.0.self_attn.k_proj.lora_a": {64, 4}}, kind: damaged, want: "lora_a or lora_b is missing"},
		"not transposed":     {shapes: map[string][]int64{"model.layers.0.self_attn.k_proj.lora_a": {4, 64}, "model.layers.0.self_attn.k_proj.lora_b": {32, 4}}, kind: damaged, want: "A is [64 4] and B [4 32], want"},
		"experts":            {shapes: map[string][]int64{"model.layers.0.self_attn.k_proj.lora_a": {2, 64, 4}, "model.layers.0.self_attn.k_proj.lora_b": {2, 4, 32}}, kind: damaged, want: "2 and 2 matrices, the model has 1"},
		"one expert's B":     {shapes: map[string][]int64{"model.layers.0.self_attn.k_proj.lora_a": {64, 4}, "model.layers.0.self_attn.k_proj.lora_b": {2, 4, 32}}, kind: damaged, want: "1 and 2 matrices, the model has 1"},
		"unknown module":     {shapes: map[string][]int64{"model.layers.0.mixer.lora_a": {64, 4}, "model.layers.0.mixer.lora_b": {4, 32}}, kind: damaged, want: "that an adapter can be on"},
	} {
		t.Run(name, func(t *testing.T) {
			f := folder{mlxWeights, safetensors.F32, map[string][]int64{
				"model.layers.0.self_attn.q_proj.lora_a": {64, 4}, "model.layers.0.self_attn.q_proj.lora_b": {4, 64},
			}, map[string]any{"fine_tune_type": "lora", "num_layers": 16, "lora_parameters": map[string]any{"rank": 4, "scale": 20.0, "dropout": 0.0}}}
			maps.Copy(f.config, tt.config)
			maps.Copy(f.shapes, tt.shapes)
			checkRefused(t, Config{From: f.write(t), To: GGUF, Model: model}, tt.kind, tt.want)
		})
	}
}

// Old versions of mlx-lm wrote an alpha beside the scale.
func TestMLXOfOld(t *testing.T) {
	model := tinyLlama(t)
	f := folder{mlxWeights, safetensors.F32, map[string][]int64{
		"model.layers.0.self_attn.q_proj.lora_a": {64, 4}, "model.layers.0.self_attn.q_proj.lora_b": {4, 64},
	}, map[string]any{"lora_layers": 16, "lora_parameters": map[string]any{"rank": 4, "alpha": 16, "scale": 10.0, "dropout": 0.0}}}
	_, r := mustRun(t, f.write(t), GGUF, model)
	if r.ScaleMin != 10 || r.Alpha != 40 || len(r.Notes) != 1 {
		t.Errorf("report = %+v, want scale 10 and a note on alpha", r)
	}
}

// Nothing in a configuration names a file that is opened or written.
func TestPathsInConfig(t *testing.T) {
	model := tinyLlama(t)
	f := peftFolder(mustModel(t, model), 4, everySite)
	const trick = "../../../../../etc/passwd\x1b[2J"
	f.config["base_model_name_or_path"] = trick
	f.config["auto_mapping"] = map[string]any{"parent_library": "/etc/passwd"}
	peft := f.write(t)
	lora, _ := mustRun(t, peft, GGUF, model)
	back, _ := mustRun(t, lora, PEFT, model)
	var config map[string]any
	if err := json.Unmarshal(readFile(t, filepath.Join(back, configFile)), &config); err != nil {
		t.Fatal(err)
	}
	if name := config["base_model_name_or_path"]; name != nil {
		t.Errorf("base_model_name_or_path = %q, want none: it is a path of somebody's machine", name)
	}
	entries, _ := os.ReadDir(back)
	if len(entries) != 2 {
		t.Errorf("folder holds %v, want two files", entries)
	}
}
