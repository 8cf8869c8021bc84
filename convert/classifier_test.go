package convert

import (
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"finetune/classify"
	"finetune/internal/need"
)

// tinyBERT is the BERT of the adapters in testdata.
func tinyBERT(t *testing.T) string { return need.Own(t, "trainer/testdata/encoders/bert.gguf") }

func tinyRoBERTa(t *testing.T) string {
	return need.Own(t, "trainer/testdata/encoders/roberta.gguf")
}

// headOf reads the classifier beside a GGUF.
func headOf(t *testing.T, lora string) *classify.Head {
	t.Helper()
	h, err := classify.Load(filepath.Join(filepath.Dir(lora), classify.FileName))
	if err != nil {
		t.Fatal(err)
	}
	return h
}

// What PEFT saved of a RoBERTa's classifier, and of a BERT's with its pooler, comes back from GGUF byte for byte.
func TestSavedClassifiersComeBack(t *testing.T) {
	for name, model := range map[string]string{"peft-roberta-classifier": tinyRoBERTa(t), "peft-bert-pooler": tinyBERT(t)} {
		t.Run(name, func(t *testing.T) {
			peft := own(name)(t)
			lora, r := mustRun(t, peft, GGUF, model)
			if r.Classifier != filepath.Join(filepath.Dir(lora), classify.FileName) || !slices.Equal(r.Labels, []string{"LABEL_0", "LABEL_1", "LABEL_2"}) {
				t.Errorf("report: classifier %q of %q, want one beside the adapter of LABEL_0 to LABEL_2", r.Classifier, r.Labels)
			}
			if h := headOf(t, lora); h.Pooling != classify.PoolFirst || h.Dense == nil || h.NEmbd() != 32 {
				t.Errorf("classifier over %v of %d numbers, dense layer %v, want the first of 32 and one", h.Pooling, h.NEmbd(), h.Dense)
			}
			back, _ := mustRun(t, lora, PEFT, model)
			got, want := tensorsOf(t, filepath.Join(back, peftWeights)), tensorsOf(t, filepath.Join(peft, peftWeights))
			if !maps.EqualFunc(got, want, func(a, b []any) bool { return a[0] == b[0] && a[2] == b[2] }) {
				t.Errorf("tensors %v, want %v", slices.Sorted(maps.Keys(got)), slices.Sorted(maps.Keys(want)))
			}
			settings := settingsOf(t, back)
			if settings["task_type"] != "SEQ_CLS" || !strings.Contains(strings.Join(strs(settings["modules_to_save"]), " "), "classifier") {
				t.Errorf("task_type %v, modules_to_save %v, want SEQ_CLS and the classifier", settings["task_type"], settings["modules_to_save"])
			}
		})
	}
}

// strs returns the names in a list.
func strs(v any) (names []string) {
	list, _ := v.([]any)
	for _, name := range list {
		names = append(names, name.(string))
	}
	return names
}

// A BERT's pooler is neither in its GGUF nor, if it was not trained, in the adapter.
func TestPoolerOfTheBase(t *testing.T) {
	c := Config{From: own("peft-bert-classifier")(t), To: GGUF, Model: tinyBERT(t), Out: filepath.Join(t.TempDir(), "adapter.gguf")}
	checkRefused(t, c, damaged, "over BERT's pooler, which is neither in the adapter nor in any GGUF")
	c.AdapterOnly = true
	if r, err := Run(c); err != nil || r.Classifier != "" || r.Modules != 12 {
		t.Errorf("without the classifier: %+v, %v, want the 12 modules alone", r, err)
	}
	c.AdapterOnly, c.Out = false, filepath.Join(t.TempDir(), "adapter.gguf")
	c.Transformers = own("bert-transformers")(t)
	r, err := Run(c)
	if err != nil {
		t.Fatal(err)
	}
	if !slices.ContainsFunc(r.Notes, func(note string) bool { return strings.Contains(note, "pooler.dense") }) {
		t.Errorf("notes %q, want one of the pooler's LoRA", r.Notes)
	}
	c.Out = filepath.Join(filepath.Dir(c.Out), "other.gguf")
	if _, err := Run(c); err == nil || !strings.Contains(err.Error(), "classifier.gguf\": exists already") {
		t.Errorf("a second adapter beside the first: %v, want that the classifier is there", err)
	}
}

// roberta is an adapter with a classifier over the tiny RoBERTa, of three classes.
func roberta(m *baseModel) folder {
	f := peftFolder(m, 4, everySite)
	for name := range maps.Clone(f.shapes) {
		f.shapes[strings.Replace(name, peftPrefix, peftPrefix+prefixRoBERTa, 1)] = f.shapes[name]
		delete(f.shapes, name)
	}
	f.config["task_type"], f.config["modules_to_save"] = "SEQ_CLS", []string{"classifier", "score"}
	f.shapes[peftPrefix+"classifier.dense.weight"], f.shapes[peftPrefix+"classifier.dense.bias"] = []int64{32, 32}, []int64{32}
	f.shapes[peftPrefix+"classifier.out_proj.weight"], f.shapes[peftPrefix+"classifier.out_proj.bias"] = []int64{3, 32}, []int64{3}
	return f
}

func TestClassifiersThatAreRefused(t *testing.T) {
	model := tinyRoBERTa(t)
	m := mustModel(t, model)
	const out, dense = peftPrefix + "classifier.out_proj", peftPrefix + "classifier.dense"
	for name, tt := range map[string]struct {
		change func(f folder)
		kind   kind
		want   string
	}{
		"no bias":        {func(f folder) { delete(f.shapes, out+".bias") }, damaged, `tensor "classifier.out_proj.bias": missing, and the rest of the classifier is there`},
		"no dense layer": {func(f folder) { delete(f.shapes, dense+".weight") }, damaged, `tensor "classifier.dense.weight": missing`},
		"no scores":      {func(f folder) { delete(f.shapes, out+".weight") }, damaged, `has parts of a classifier, and no "classifier.out_proj.weight"`},
		"no classifier": {func(f folder) {
			maps.DeleteFunc(f.shapes, func(name string, _ []int64) bool { return strings.Contains(name, "classifier") })
		}, damaged, "has no classifier, and adapter_config.json says"},
		"other biases":        {func(f folder) { f.shapes[out+".bias"] = []int64{2} }, damaged, "shape [2], want [3]"},
		"another width":       {func(f folder) { f.shapes[out+".weight"] = []int64{3, 16} }, damaged, "shape [3 16], want [n_classes 32]"},
		"a square too small":  {func(f folder) { f.shapes[dense+".weight"] = []int64{32, 16} }, damaged, "shape [32 16], want [32 32]"},
		"one dimension":       {func(f folder) { f.shapes[out+".weight"] = []int64{96} }, damaged, "shape [96], want [n_classes 32]"},
		"one score":           {func(f folder) { f.shapes[out+".weight"], f.shapes[out+".bias"] = []int64{1, 32}, []int64{1} }, refused, "one score for a text, want 2 classes or more"},
		"no classes":          {func(f folder) { f.shapes[out+".weight"], f.shapes[out+".bias"] = []int64{0, 32}, []int64{0} }, damaged, "0 classes, want 2 to 65536"},
		"too many classes":    {func(f folder) { f.shapes[out+".weight"] = []int64{classify.MostLabels + 1, 32} }, damaged, "65537 classes, want 2 to 65536"},
		"two classifiers":     {func(f folder) { f.shapes[peftPrefix+"classifier.weight"] = []int64{3, 32} }, damaged, "which are of different classifiers"},
		"classes of tokens":   {func(f folder) { f.config["task_type"] = "TOKEN_CLS" }, refused, `task_type "TOKEN_CLS", want "SEQ_CLS"`},
		"another module":      {func(f folder) { f.config["modules_to_save"] = []string{"classifier", "embeddings"} }, refused, "whole modules were trained along"},
		"modules as a number": {func(f folder) { f.config["modules_to_save"] = 3 }, damaged, "modules_to_save is 3, want a list of names"},
	} {
		t.Run(name, func(t *testing.T) {
			f := roberta(m)
			tt.change(f)
			checkRefused(t, Config{From: f.write(t), To: GGUF, Model: model}, tt.kind, tt.want)
		})
	}
}

func TestLabelsOfConfigJSON(t *testing.T) {
	model := tinyRoBERTa(t)
	dir := roberta(mustModel(t, model)).write(t)
	config := filepath.Join(dir, "config.json")
	writeFile(t, config, []byte(`{"id2label": {"0": "no", "2": "maybe", "1": "yes"}}`))
	lora, _ := mustRun(t, dir, GGUF, model)
	if got := headOf(t, lora).Labels; !slices.Equal(got, []string{"no", "yes", "maybe"}) {
		t.Errorf("labels %q, want no, yes, maybe", got)
	}
	back, _ := mustRun(t, lora, PEFT, model)
	again, _ := mustRun(t, back, GGUF, model)
	if got := headOf(t, again).Labels; !slices.Equal(got, []string{"no", "yes", "maybe"}) {
		t.Errorf("labels %q after the way through PEFT, want no, yes, maybe", got)
	}
	for text, want := range map[string]string{
		`{"id2label": {"0": "no", "1": "yes"}}`:              "id2label names 2 classes, the classifier has 3",
		`{"id2label": {"0": "no", "1": "yes", "7": "what"}}`: "id2label: 3 classes, and none of number 2",
		`{"id2label": {"0": "no", "1": 5, "2": "maybe"}}`:    `1 is 5, want a string`,
		`{"id2label": ["no", "yes", "maybe"]}`:               "is no JSON object",
		`[]`:                                                 "is no JSON object",
	} {
		writeFile(t, config, []byte(text))
		checkRefused(t, Config{From: dir, To: GGUF, Model: model}, damaged, want)
	}
}

// Beside a GGUF LoRA may lie a classifier that transformers cannot hold, or one of another model.
func TestClassifierBesideAGGUF(t *testing.T) {
	model := tinyRoBERTa(t)
	m := mustModel(t, model)
	lora, _ := mustRun(t, roberta(m).write(t), GGUF, model)
	h := headOf(t, lora)
	path := filepath.Join(filepath.Dir(lora), classify.FileName)
	h.Pooling = classify.PoolMean
	if err := h.Save(path); err != nil {
		t.Fatal(err)
	}
	checkRefused(t, Config{From: lora, To: PEFT, Model: model}, refused, `the classifier is one over the pooling "mean", transformers has it over "cls"`)
	h.BaseHash = "sha256:0"
	if err := h.Save(path); err != nil {
		t.Fatal(err)
	}
	back, r := mustRun(t, lora, PEFT, model)
	if !slices.ContainsFunc(r.Notes, func(note string) bool { return strings.Contains(note, "is left out: classifier of a model") }) {
		t.Errorf("notes %q, want one of the classifier that is left out", r.Notes)
	}
	if got := settingsOf(t, back)["task_type"]; got != "FEATURE_EXTRACTION" {
		t.Errorf("task_type %v, want FEATURE_EXTRACTION", got)
	}
	writeFile(t, path, []byte("GGUF"))
	if _, err := Run(Config{From: lora, To: PEFT, Model: model, Out: filepath.Join(t.TempDir(), "out")}); err == nil {
		t.Error("a damaged classifier passes, want an error")
	}
}

// The scores of a decoder are over its last token, without biases.
func TestScoreOfADecoder(t *testing.T) {
	model := tinyLlama(t)
	f := peftFolder(mustModel(t, model), 4, func(mod module) bool { return mod.layer >= 0 })
	f.config["task_type"], f.config["modules_to_save"] = "SEQ_CLS", []string{"classifier", "score"}
	f.shapes[peftPrefix+"score.modules_to_save.default.weight"] = []int64{4, 64}
	f.shapes[peftPrefix+"score.original_module.weight"] = []int64{4, 64}
	lora, _ := mustRun(t, f.write(t), GGUF, model)
	h := headOf(t, lora)
	if h.Pooling != classify.PoolLast || h.Dense != nil || len(h.Labels) != 4 || h.NEmbd() != 64 {
		t.Errorf("classifier of %d classes over %v, want 4 over the last token", len(h.Labels), h.Pooling)
	}
	back, _ := mustRun(t, lora, PEFT, model)
	if _, ok := tensorsOf(t, filepath.Join(back, peftWeights))[peftPrefix+"score.weight"]; !ok {
		t.Error("no score.weight after the way back")
	}
	h.Biases[1] = 0.5
	if err := h.Save(filepath.Join(filepath.Dir(lora), classify.FileName)); err != nil {
		t.Fatal(err)
	}
	checkRefused(t, Config{From: lora, To: PEFT, Model: model}, refused, "the classifier has biases, transformers' has none over a llama")
}

// sentence-transformers keeps the adapter in the model's folder or in that of its first module.
func TestFoldersOfSentenceTransformers(t *testing.T) {
	model, root := tinyBERT(t), own("sentence-transformers-bert")(t)
	want, r := mustRun(t, root, GGUF, model)
	if !slices.ContainsFunc(r.Notes, func(note string) bool { return strings.Contains(note, "pooler.dense") }) {
		t.Errorf("notes %q, want one of the pooler that is left out", r.Notes)
	}
	outer := t.TempDir()
	if err := os.CopyFS(filepath.Join(outer, "0_Transformer"), os.DirFS(root)); err != nil {
		t.Fatal(err)
	}
	modules := filepath.Join(outer, modulesFile)
	writeFile(t, modules, []byte(`[{"idx": 0, "path": "0_Transformer"}, {"idx": 1, "path": "1_Pooling"}]`))
	got, _ := mustRun(t, outer, GGUF, model)
	sameTensors(t, got, want)
	if !IsFolder(outer) {
		t.Error("IsFolder does not know the folder")
	}
	back, _ := mustRun(t, got, PEFT, model)
	if _, ok := tensorsOf(t, filepath.Join(back, peftWeights))[peftPrefix+"encoder.layer.0.attention.self.query.lora_A.weight"]; !ok {
		t.Error("no query of layer 0 after the way back")
	}
	for text, want := range map[string]string{
		`[{"path": "../elsewhere"}]`: `path is "../elsewhere", want a folder in this one`,
		`{"0": "x"}`:                 "modules is",
		`[`:                          "is no JSON object",
	} {
		writeFile(t, modules, []byte(text))
		checkRefused(t, Config{From: outer, To: GGUF, Model: model}, damaged, want)
	}
}

// A name of an older sentence-transformers, and of PEFT around all of it.
func TestPrefixesOfEncoders(t *testing.T) {
	m := mustModel(t, tinyBERT(t))
	for _, prefix := range append([]string{""}, m.prefixes...) {
		name, wrapper := m.unwrap(prefix + "encoder.layer.1.output.dense")
		if _, ok := m.byName[name]; !ok || wrapper != prefix || m.wrap(name, wrapper) != prefix+name {
			t.Errorf("%q: module %q, prefix %q", prefix, name, wrapper)
		}
	}
}
