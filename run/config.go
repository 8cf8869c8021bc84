package run

import (
	"math"
	"slices"
	"strconv"
	"strings"
	"time"

	"finetune/adapter"
	"finetune/internal/machine"
)

// Config is every setting of a training run. The YAML keys are the flags of
// `finetune train`, letter for letter, but for the one tagged `flag:"-"`, which follows
// from another; config.yaml in the run directory holds the effective values.
//
// A field tagged `resume:"free"` may change when a run is resumed; every other
// one decides what is learned and is part of [Config.Hash].
//
// A field that a later version adds is tagged `was:"VALUE"`, the value that makes the
// program do what it did before there was the field: so a run that was made before
// can be resumed, see [LoadSaved]. Without the tag every older run is another run.
// A tag `same:"VALUE"` names another word for that value.
type Config struct {
	Model       string  `yaml:"model" resume:"free"`                      // path of the base, a GGUF
	ModelName   string  `yaml:"model-name" resume:"free" was:"" flag:"-"` // what the base was called where it was found by a name, such as ollama:gemma3:270m; empty = by its path
	Data        string  `yaml:"data" resume:"free"`                       // paths of the training data, a line each: files, folders, globs, or - for standard input
	Val         string  `yaml:"val" resume:"free"`                        // paths of the validation data; empty = hold out ValFraction of Data
	ValFraction float64 `yaml:"val-fraction"`                             // share of Data held out, 0 to below 1; unused with Val
	Out         string  `yaml:"out" resume:"free"`                        // the run directory

	Format      string `yaml:"format" was:""`          // of the records, one of data's; empty = by their fields
	Map         string `yaml:"map" was:""`             // field=column, a line each: columns that hold the fields of a format
	OnLost      string `yaml:"on-lost" was:"warn"`     // what happens to a record of which the chat template prints not everything: warn, refuse or skip
	SkipBad     int    `yaml:"skip-bad" was:"0"`       // how many records that cannot be read may be left out
	Template    string `yaml:"template" resume:"free"` // path of a chat template in place of the model's own; empty = the model's
	TemplateArg string `yaml:"template-arg" was:""`    // key=value, a line each: arguments of the chat template
	Date        string `yaml:"date" resume:"free"`     // day that chat templates tell, 2006-01-02; of a new run the day it began; empty = none

	Task        string  `yaml:"task" was:""`         // classify: the label of each record; embed: which texts belong together; rerank: how relevant a document is to a query; empty = the text that follows
	Temperature float64 `yaml:"temperature" was:"0"` // of embeddings' loss; 0 = 0.05
	Dims        string  `yaml:"dims" was:""`         // of embeddings' loss: lengths, with commas between them, that their beginnings are good for too; empty = whole ones
	LabelField  string  `yaml:"label-field" was:""`  // of a classification or a ranking: the field that holds the labels or the relevance; empty = found by its name
	HeadLR      float64 `yaml:"head-lr" was:"0"`     // of a classification or a ranking: learning rate of the classifier as a share of the adapter's; 0 = 1

	ClassWeights string `yaml:"class-weights" was:""` // of a classification's loss: balanced, or label=weight with commas between, 1 for other labels; empty = 1 each

	Method  string  `yaml:"method"`  // one of adapter.Methods, or full; the next three are for adapters only, zero with full
	Rank    int     `yaml:"rank"`    // rank budget a matrix; dual-lora splits it evenly between magnitude and direction
	Alpha   float64 `yaml:"alpha"`   // scale s = alpha/rank (dual-lora: alpha/rank of the magnitude group, with start paper alpha/√(r1·r2); rslora: alpha/√rank); 0 = a scale of 1
	Targets string  `yaml:"targets"` // all-linear, attention, or a regular expression over whole tensor names

	Start          string  `yaml:"start" was:"" same:"even"` // of dual-lora: even, thin, gradient or paper; empty = even. Other methods have one way to start
	MagnitudeRank  int     `yaml:"magnitude-rank" was:"0"`   // of dual-lora: ranks of the magnitude group; 0 = by the start
	Rho            float64 `yaml:"rho" was:"0"`              // of a thin start: |ΔW| as a share of rms(W) at the start; 0 = by the number of matrices
	MagnitudeLR    float64 `yaml:"magnitude-lr" was:"0"`     // of dual-lora: learning rate of A and B as a share of that of C and D; 0 = by the start
	MagnitudeEvery int     `yaml:"magnitude-every" was:"0"`  // of dual-lora with one magnitude rank: gradients of A and B are formed over one of so many tokens; 0 and 1 = all
	DeltaWarmup    float64 `yaml:"delta-warmup" was:"0"`     // share of the steps over which a factor on ΔW rises from 0 to 1; 0 = none

	InitFrom string `yaml:"init-from" was:""` // path of an adapter or run directory whose factors the training starts from; empty = fresh ones

	Ctx         int    `yaml:"ctx"`          // tokens a sequence
	Batch       int    `yaml:"batch"`        // sequences a forward pass
	GradAccum   int    `yaml:"grad-accum"`   // forward passes an optimizer step
	Epochs      int    `yaml:"epochs"`       // passes over the training data; unused when Steps is set
	Steps       int    `yaml:"steps"`        // optimizer steps; 0 = by Epochs
	LongRecords string `yaml:"long-records"` // what happens to a record longer than Ctx: cut or skip

	LR          Rate    `yaml:"lr"`           // peak learning rate, per optimizer step, or AutoRate or Usual
	MinLR       float64 `yaml:"min-lr"`       // what cosine and linear decay to
	Schedule    string  `yaml:"schedule"`     // cosine, linear or constant
	Warmup      float64 `yaml:"warmup"`       // below 1: share of the steps; 1 and above: steps
	Clip        float64 `yaml:"clip"`         // largest global norm of the gradients; 0 = no clipping
	WeightDecay float64 `yaml:"weight-decay"` // decoupled, AdamW's λ
	Seed        uint64  `yaml:"seed"`         // of the start values, the shuffling and the split

	Threads   int    `yaml:"threads" resume:"free"`    // CPU threads; 0 = one per physical core
	Device    string `yaml:"device" resume:"free"`     // auto, cpu, vulkan, cuda, metal or the name of a device
	GPULayers int    `yaml:"gpu-layers" resume:"free"` // layers in the device's memory, from the last; -1 = all
	MaxMemory string `yaml:"max-memory" resume:"free"` // such as 4GiB; empty = no limit

	EvalEvery       int `yaml:"eval-every" resume:"free"`       // steps between validations; 0 = at the start and the end only
	ValTokens       int `yaml:"val-tokens" resume:"free"`       // tokens that a validation measures at most; 0 = what takes a few minutes
	CheckpointEvery int `yaml:"checkpoint-every" resume:"free"` // steps between checkpoints; 0 = at the end and when interrupted
	LogEvery        int `yaml:"log-every" resume:"free"`        // steps between lines of log.jsonl

	Patience int    `yaml:"patience" was:"0"` // stop when the validation loss has not fallen for so many validations; 0 = never
	Keep     string `yaml:"keep" was:""`      // what the run ends with: last, best, which is the step of the lowest validation loss, or empty = best with Patience, else last

	Samples     int  `yaml:"samples" resume:"free" was:"0"`         // prompts that are answered at each validation, for people to read
	TensorBoard bool `yaml:"tensorboard" resume:"free" was:"false"` // write EventsFile beside the log

	CheckpointMinutes float64 `yaml:"checkpoint-minutes" resume:"free"` // minutes after which a checkpoint is due whatever CheckpointEvery says; 0 = none
}

// The tasks beside the text that follows.
const (
	TaskClassify = "classify" // the label of each record
	TaskEmbed    = "embed"    // states by which a text finds the one that belongs to it
	TaskRerank   = "rerank"   // how relevant a document is to a query
)

// DefaultConfig returns the defaults. Model, Data and Out have none. What goes with the method is
// filled in by [Config.Completed].
func DefaultConfig() Config {
	return Config{
		ValFraction: 0.1,
		OnLost:      "refuse",
		Method:      "dual-lora",
		Rank:        16,
		Targets:     "all-linear",
		Ctx:         512,
		Batch:       4,
		GradAccum:   1,
		Epochs:      1,
		LongRecords: "cut",
		LR:          Usual,
		Schedule:    "cosine",
		Warmup:      0.03,
		Clip:        1,
		Seed:        1,
		Device:      "auto",
		GPULayers:   -1,
		LogEvery:    1,

		CheckpointMinutes: 10,
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

// DateLayout is how Config.Date is written.
const DateLayout = "2006-01-02"

// Day returns the day that chat templates tell, zero for none. The setting must have passed Validate.
func (c Config) Day() time.Time {
	day, _ := time.ParseInLocation(DateLayout, c.Date, time.Local)
	return day
}

// Dated returns the settings with a day: that of now where they have none.
func (c Config) Dated(now time.Time) Config {
	if c.Date == "" {
		c.Date = now.Format(DateLayout)
	}
	return c
}

// Lines returns the entries of a setting that has one a line.
func Lines(setting string) []string {
	return strings.FieldsFunc(setting, func(r rune) bool { return r == '\n' })
}

// TotalSteps returns the number of optimizer steps of a run over n training windows.
func (c Config) TotalSteps(n int) int {
	if c.Steps > 0 {
		return c.Steps
	}
	perStep := c.Batch * c.GradAccum
	return (c.Epochs*n + perStep - 1) / perStep
}

// ThreadCount returns the number of threads to compute with.
func (c Config) ThreadCount() int { return machine.ThreadCount(c.Threads) }

// DimList returns the lengths in Dims, nil where there are none or one is no number above 0.
func (c Config) DimList() (dims []int) {
	if c.Dims == "" {
		return nil
	}
	for part := range strings.SplitSeq(c.Dims, ",") {
		n, err := strconv.Atoi(strings.TrimSpace(part))
		if err != nil || n < 1 {
			return nil
		}
		dims = append(dims, n)
	}
	return dims
}

// Reads returns the files and folders that the run reads, so that nothing is written in their place.
func (c Config) Reads() []string {
	return slices.DeleteFunc([]string{c.Model, c.Data, c.Val, c.InitFrom, c.Template}, func(path string) bool { return path == "" })
}

// Judges reports whether validations decide when the run ends or what it ends with.
func (c Config) Judges() bool { return c.Patience > 0 || c.KeepsBest() }

// KeepsBest reports whether the run ends with what it had at its lowest validation loss.
func (c Config) KeepsBest() bool { return c.Keep == "best" || c.Keep == "" && c.Patience > 0 }

// Recipe returns what factors the settings ask for.
func (c Config) Recipe() adapter.Recipe {
	return adapter.Recipe{Method: adapter.Method(c.Method), Rank: c.Rank, Alpha: float32(c.Alpha),
		Start: adapter.Start(c.Start), MagnitudeRank: c.MagnitudeRank, Rho: c.Rho, MagnitudeRate: c.MagnitudeLR}
}

// Settings of a method and a start where the user has given no others.
const (
	alphaOverRank = 2    // of lora and dora: a scale of 2; of dual-lora with the ranks evenly split or the paper's start, one of 4
	rsloraAlpha   = 8    // a scale of 2 at rank 16
	thinScale     = 4    // s
	deltaWarmup   = 0.15 // share of the steps
)

// Completed returns the settings with those that go with the method, and with the start of a dual-lora, which is thin where
// there is none, in the place of the defaults, but for those that the user has set; set may be nil. What goes on from
// another adapter has its settings from there.
func (c Config) Completed(set func(key string) bool) Config {
	if c.InitFrom != "" || c.Method == MethodFull {
		return c
	}
	given := func(key string) bool { return set != nil && set(key) }
	dual := c.Method == string(adapter.MethodDual)
	if dual && c.Start == "" {
		c.Start = string(adapter.StartThin)
	}
	if !given("alpha") && c.Alpha == 0 {
		c.Alpha = c.usualAlpha()
	}
	if dual && c.Start != string(adapter.StartEven) && !given("delta-warmup") && c.DeltaWarmup == 0 {
		c.DeltaWarmup = deltaWarmup
	}
	return c
}

func (c Config) usualAlpha() float64 {
	switch {
	case adapter.Start(c.Start).Thin():
		return thinScale * float64(max(1, c.MagnitudeRank))
	case c.Method == string(adapter.MethodRSLoRA):
		return rsloraAlpha
	}
	return alphaOverRank * float64(c.Rank)
}

// DeltaWarmupSteps returns the steps over which the factor on ΔW rises, for a run of total steps: it is 1 in the last one.
func (c Config) DeltaWarmupSteps(total int) int {
	return min(int(math.Ceil(c.DeltaWarmup*float64(total))), total)
}
