package trainer

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"os"
	"reflect"
	"strings"

	"finetune/internal/atomicfile"

	"go.yaml.in/yaml/v3"
)

// Config is every setting of a training run. The YAML keys are the flags of
// `finetune train`, letter for letter; config.yaml in the run directory holds
// the effective values.
//
// A field tagged `resume:"free"` may change when a run is resumed; every other
// one decides what is learned and is part of Hash.
type Config struct {
	Model       string  `yaml:"model" resume:"free"` // path of the base, a GGUF
	Data        string  `yaml:"data" resume:"free"`  // path of the training data: .txt, .jsonl or .json
	Val         string  `yaml:"val" resume:"free"`   // path of the validation data; empty = hold out ValFraction of Data
	ValFraction float64 `yaml:"val-fraction"`        // share of Data held out, 0 to below 1; unused with Val
	Out         string  `yaml:"out" resume:"free"`   // the run directory

	Method  string  `yaml:"method"`  // one of adapter.Methods, or full; the next three are for adapters only, zero with full
	Rank    int     `yaml:"rank"`    // rank budget a matrix; dual-lora splits it evenly between magnitude and direction
	Alpha   float64 `yaml:"alpha"`   // scale s = alpha/rank (dual-lora: alpha/rank of the magnitude group; rslora: alpha/√rank); 0 = a scale of 1
	Targets string  `yaml:"targets"` // all-linear, attention, or a regular expression over whole tensor names

	Ctx         int    `yaml:"ctx"`          // tokens a sequence
	Batch       int    `yaml:"batch"`        // sequences a forward pass
	GradAccum   int    `yaml:"grad-accum"`   // forward passes an optimizer step
	Epochs      int    `yaml:"epochs"`       // passes over the training data; unused when Steps is set
	Steps       int    `yaml:"steps"`        // optimizer steps; 0 = by Epochs
	LongRecords string `yaml:"long-records"` // what happens to a record longer than Ctx: cut or skip

	LR          float64 `yaml:"lr"`           // peak learning rate, per optimizer step
	MinLR       float64 `yaml:"min-lr"`       // what cosine and linear decay to
	Schedule    string  `yaml:"schedule"`     // cosine, linear or constant
	Warmup      float64 `yaml:"warmup"`       // below 1: share of the steps; 1 and above: steps
	Clip        float64 `yaml:"clip"`         // largest global norm of the gradients; 0 = no clipping
	WeightDecay float64 `yaml:"weight-decay"` // decoupled, AdamW's λ
	Seed        uint64  `yaml:"seed"`         // of the start values, the shuffling and the split

	Threads   int    `yaml:"threads" resume:"free"`    // CPU threads; 0 = one a physical core
	Device    string `yaml:"device" resume:"free"`     // auto, cpu, metal, cuda or vulkan
	MaxMemory string `yaml:"max-memory" resume:"free"` // such as 4GiB; empty = no limit

	EvalEvery       int `yaml:"eval-every" resume:"free"`       // steps between validations; 0 = at the start and the end only
	CheckpointEvery int `yaml:"checkpoint-every" resume:"free"` // steps between checkpoints; 0 = at the end and when interrupted
	LogEvery        int `yaml:"log-every" resume:"free"`        // steps between lines of log.jsonl
}

// DefaultConfig returns the defaults. Model, Data and Out have none.
func DefaultConfig() Config {
	return Config{
		ValFraction: 0.1,
		Method:      "dual-lora",
		Rank:        16,
		Targets:     "all-linear",
		Ctx:         512,
		Batch:       4,
		GradAccum:   1,
		Epochs:      1,
		LongRecords: "cut",
		LR:          2e-3,
		Schedule:    "cosine",
		Warmup:      0.03,
		Clip:        1,
		Seed:        1,
		Device:      "auto",
		LogEvery:    1,
	}
}

// DefaultsOf returns the defaults of a training method; an empty one, and one that
// there is not, have those of DefaultConfig. The learning rate of full suits models
// of up to some hundred million parameters, made anew or trained before; a larger
// model that was trained before wants a tenth or less.
func DefaultsOf(method string) Config {
	c := DefaultConfig()
	if method == "" {
		return c
	}
	c.Method = method
	if method == MethodFull {
		c.Rank, c.Targets, c.LR, c.WeightDecay = 0, "", 1e-3, 0.1
	}
	return c
}

// ResultFile is the name of the file in the run directory that a run ends with.
func (c Config) ResultFile() string {
	if c.Method == MethodFull {
		return ModelFile
	}
	return AdapterFile
}

// maxConfigBytes is far above any configuration: a model given as --config by
// mistake is refused before it is read.
const maxConfigBytes = 1 << 20

// LoadConfig reads a YAML file over the defaults of its method: what the file
// leaves out keeps its default. An unknown key or a second document is an error.
// The values themselves are checked by Validate.
func LoadConfig(path string) (Config, error) { return LoadConfigFor(path, "") }

// LoadConfigFor is LoadConfig over the defaults of another method than the file's,
// which will be used in its place; an empty one stands for the file's.
func LoadConfigFor(path, method string) (Config, error) {
	c := DefaultsOf(method)
	text, err := readConfig(path)
	if err != nil {
		return c, err
	}
	var own struct{ Method string }
	if method == "" && yaml.Unmarshal(text, &own) == nil { // what is wrong with the text shows below
		c = DefaultsOf(own.Method)
	}
	dec := yaml.NewDecoder(bytes.NewReader(text))
	dec.KnownFields(true)
	if err := dec.Decode(&c); err != nil && err != io.EOF { // EOF: an empty file, all defaults
		return c, fmt.Errorf("trainer: config %q: %s", path, yamlMessage(err))
	}
	if err := dec.Decode(new(any)); err != io.EOF {
		return c, fmt.Errorf("trainer: config %q: holds more than one YAML document", path)
	}
	return c, nil
}

// readConfig returns the bytes of a file that is small enough to be a Config.
func readConfig(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, maxConfigBytes+1))
	if err != nil {
		return nil, err
	}
	if len(text) > maxConfigBytes {
		return nil, fmt.Errorf("trainer: config %q: larger than %d bytes", path, maxConfigBytes)
	}
	return text, nil
}

// yamlMessage turns the YAML package's error, which may have several lines and
// name Go types, into the first of its complaints in words of the file.
func yamlMessage(err error) string {
	text := strings.TrimPrefix(err.Error(), "yaml: ")
	if list := (*yaml.TypeError)(nil); errors.As(err, &list) && len(list.Errors) > 0 {
		text = list.Errors[0]
	}
	text, _, _ = strings.Cut(text, "\n")
	return strings.NewReplacer(" in type trainer.Config", "", "into trainer.Config", "into keys and values", "field ", "key ", " not found", " is unknown").Replace(text)
}

// Save writes the configuration as YAML, atomically.
func (c Config) Save(path string) error {
	text, err := yaml.Marshal(c)
	if err != nil {
		return fmt.Errorf("trainer: config %q: %w", path, err)
	}
	return atomicfile.Write(path, func(w io.Writer) error {
		_, err := w.Write(text)
		return err
	})
}

// Hash identifies what is learned: two configurations with the same hash may
// continue each other's checkpoints. Fields tagged `resume:"free"` do not count;
// the caller checks that the base and the data behind the paths are the same.
func (c Config) Hash() [sha256.Size]byte {
	h := sha256.New()
	for name, value := range c.settings(false) {
		fmt.Fprintf(h, "%s=%v\n", name, value)
	}
	return [sha256.Size]byte(h.Sum(nil))
}

// Changed returns the keys whose values differ between c and other and decide
// what is learned, in the order of the fields; none when the hashes agree.
func (c Config) Changed(other Config) []string {
	theirs := make(map[string]any)
	for name, value := range other.settings(false) {
		theirs[name] = value
	}
	var keys []string
	for name, value := range c.settings(false) {
		if value != theirs[name] {
			keys = append(keys, name)
		}
	}
	return keys
}

// settings yields key and value of each field in order, those tagged
// `resume:"free"` only when asked for.
func (c Config) settings(free bool) func(yield func(string, any) bool) {
	return func(yield func(string, any) bool) {
		v := reflect.ValueOf(c)
		for i := range v.NumField() {
			tag := v.Type().Field(i).Tag
			if tag.Get("resume") == "free" && !free {
				continue
			}
			if !yield(tag.Get("yaml"), v.Field(i).Interface()) {
				return
			}
		}
	}
}
