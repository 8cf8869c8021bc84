package run

import (
	"fmt"
	"math"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"finetune/adapter"
	"finetune/internal/setting"
)

// MaxCount and the others are the largest values that are not simply mistakes.
const (
	MaxRank  = 1 << 16 // above the width of any model
	maxCtx   = 1 << 24 // tokens
	MaxCount = 1 << 30 // steps, epochs, sequences

	maxMinutes = 1 << 20 // two years
	maxSamples = 64      // nobody reads more
)

var (
	methodNames = methods()
	longNames   = []string{"cut", "skip"}
	lostNames   = []string{"warn", "refuse", "skip"}
	taskNames   = []string{TaskClassify, TaskEmbed, TaskRerank}
)

// Schedules are the decays of the learning rate, see optim.Schedule. Read-only.
var Schedules = []string{"cosine", "linear", "constant"}

// methods lists those of adapters, and full.
func methods() (names []string) {
	for _, m := range adapter.Methods() {
		names = append(names, string(m))
	}
	return append(names, MethodFull)
}

// Validate checks every setting that can be judged without the model and the
// data and returns the first setting.Error in the order of the fields.
func (c Config) Validate() error {
	return setting.Check(
		setting.Needed("model", c.Model, "the path of a GGUF base model"),
		setting.Needed("data", c.Data, "the path of the training data"),
		setting.Needed("out", c.Out, "the path of the run directory"),
		setting.Below1("val-fraction", c.ValFraction),
		c.recordSettings(),
		setting.OneOf("method", c.Method, methodNames),
		c.adapterSettings(),
		setting.Between("ctx", c.Ctx, 2, maxCtx),
		setting.Between("batch", c.Batch, 1, MaxCount),
		setting.Between("grad-accum", c.GradAccum, 1, MaxCount),
		setting.Between("epochs", c.Epochs, 1, MaxCount),
		setting.Between("steps", c.Steps, 0, MaxCount),
		setting.OneOf("long-records", c.LongRecords, longNames),
		c.LR.check(c.Method),
		floor("min-lr", c.MinLR, c.LR),
		setting.OneOf("schedule", c.Schedule, Schedules),
		warmup("warmup", c.Warmup),
		setting.AtLeast0("clip", c.Clip),
		setting.AtLeast0("weight-decay", c.WeightDecay),
		setting.Between("threads", c.Threads, 0, 1<<12),
		setting.Needed("device", c.Device, "auto, cpu, vulkan, cuda, metal or the name of a device"),
		setting.Between("gpu-layers", c.GPULayers, -1, MaxCount),
		setting.Memory("max-memory", c.MaxMemory),
		setting.Between("eval-every", c.EvalEvery, 0, MaxCount),
		setting.Between("val-tokens", c.ValTokens, 0, MaxCount),
		setting.Between("checkpoint-every", c.CheckpointEvery, 0, MaxCount),
		setting.Between("log-every", c.LogEvery, 1, MaxCount),
		setting.Between("samples", c.Samples, 0, maxSamples),
		setting.Between("patience", c.Patience, 0, MaxCount),
		c.judgedSettings(),
		setting.Number("checkpoint-minutes", c.CheckpointMinutes, c.CheckpointMinutes >= 0 && c.CheckpointMinutes <= maxMinutes, fmt.Sprintf("0 to %d minutes", maxMinutes)),
	)
}

// ValidateRecords checks the settings that say how data is read, and returns the first setting.Error.
func (c Config) ValidateRecords() error { return setting.Check(c.recordSettings()) }

func (c Config) recordSettings() *setting.Error {
	return setting.First(
		setting.OneOf("on-lost", c.OnLost, lostNames),
		setting.Between("skip-bad", c.SkipBad, 0, MaxCount),
		pairs("map", c.Map, "field=column"),
		c.taskSettings(),
		pairs("template-arg", c.TemplateArg, "key=value"),
		date("date", c.Date),
	)
}

// maxTemperature is far above any that tells texts apart.
const maxTemperature = 100

// maxHeadLR is far above any share that is of use.
const maxHeadLR = 1000

// taskSettings checks what is learned.
func (c Config) taskSettings() *setting.Error {
	switch {
	case c.Task != "" && !slices.Contains(taskNames, c.Task):
		return &setting.Error{Key: "task", Want: strings.Join(taskNames, ", ") + ", or none for the text that follows", Got: strconv.Quote(c.Task)}
	case c.Task != TaskClassify && c.Task != TaskRerank && c.LabelField != "":
		return &setting.Error{Key: "label-field", Want: "none without task classify or rerank", Got: strconv.Quote(c.LabelField)}
	case c.Task != TaskClassify && c.ClassWeights != "":
		return &setting.Error{Key: "class-weights", Want: "none without task classify", Got: strconv.Quote(c.ClassWeights)}
	case c.Task != TaskClassify && c.Task != TaskRerank && c.HeadLR != 0:
		return &setting.Error{Key: "head-lr", Want: "0 without task classify or rerank", Got: strconv.FormatFloat(c.HeadLR, 'g', -1, 64)}
	case !(c.HeadLR >= 0 && c.HeadLR <= maxHeadLR):
		return &setting.Error{Key: "head-lr", Want: fmt.Sprintf("0 to %d", maxHeadLR), Got: strconv.FormatFloat(c.HeadLR, 'g', -1, 64)}
	case c.Task != TaskEmbed && c.Temperature != 0:
		return &setting.Error{Key: "temperature", Want: "0 without task embed", Got: strconv.FormatFloat(c.Temperature, 'g', -1, 64)}
	case !(c.Temperature >= 0 && c.Temperature <= maxTemperature):
		return &setting.Error{Key: "temperature", Want: fmt.Sprintf("0 to %d", maxTemperature), Got: strconv.FormatFloat(c.Temperature, 'g', -1, 64)}
	case c.Task != TaskEmbed && c.Dims != "":
		return &setting.Error{Key: "dims", Want: "none without task embed", Got: strconv.Quote(c.Dims)}
	case c.Dims != "" && c.DimList() == nil:
		return &setting.Error{Key: "dims", Want: "numbers above 0 with commas between them, such as 128,384", Got: strconv.Quote(c.Dims)}
	case c.Task != "" && c.Method == MethodFull:
		return &setting.Error{Key: "method", Want: "that of an adapter with task " + c.Task, Got: strconv.Quote(c.Method)}
	case c.Task != "" && c.Samples > 0:
		return &setting.Error{Key: "samples", Want: "0 with task " + c.Task + ", which writes no text", Got: strconv.Itoa(c.Samples)}
	}
	return classWeights("class-weights", c)
}

// adapterSettings checks the settings of an adapter, or that there are none.
func (c Config) adapterSettings() *setting.Error {
	unused := func(key, zero string, is bool, got string) *setting.Error {
		if is {
			return nil
		}
		return &setting.Error{Key: key, Want: zero + " with method full, which trains the base's own tensors", Got: got}
	}
	if c.Method == MethodFull {
		return setting.First(
			unused("rank", "0", c.Rank == 0, strconv.Itoa(c.Rank)),
			unused("alpha", "0", c.Alpha == 0, strconv.FormatFloat(c.Alpha, 'g', -1, 64)),
			unused("targets", "none", c.Targets == "", strconv.Quote(c.Targets)),
			unused("start", "none", c.Start == "", strconv.Quote(c.Start)),
			unused("magnitude-rank", "0", c.MagnitudeRank == 0, strconv.Itoa(c.MagnitudeRank)),
			unused("rho", "0", c.Rho == 0, strconv.FormatFloat(c.Rho, 'g', -1, 64)),
			unused("magnitude-lr", "0", c.MagnitudeLR == 0, strconv.FormatFloat(c.MagnitudeLR, 'g', -1, 64)),
			unused("magnitude-every", "0", c.MagnitudeEvery == 0, strconv.Itoa(c.MagnitudeEvery)),
			unused("delta-warmup", "0", c.DeltaWarmup == 0, strconv.FormatFloat(c.DeltaWarmup, 'g', -1, 64)),
			unused("init-from", "none", c.InitFrom == "", strconv.Quote(c.InitFrom)),
		)
	}
	return setting.First(
		setting.Between("rank", c.Rank, adapter.Method(c.Method).MinRank(), MaxRank),
		alpha("alpha", c.Alpha),
		targets("targets", c.Targets),
		c.startSettings(),
	)
}

// judgedSettings checks that there are validations to go by.
func (c Config) judgedSettings() *setting.Error {
	if c.Keep != "" && c.Keep != "last" && c.Keep != "best" {
		return setting.OneOf("keep", c.Keep, []string{"last", "best"})
	}
	switch {
	case c.EvalEvery > 0:
		return nil
	case c.Patience > 0:
		return &setting.Error{Key: "patience", Want: "0 without eval-every, which says when the loss is measured", Got: strconv.Itoa(c.Patience)}
	case c.KeepsBest():
		return &setting.Error{Key: "keep", Want: "last without eval-every, which says when the loss is measured", Got: strconv.Quote(c.Keep)}
	}
	return nil
}

// startSettings checks how the factors start.
func (c Config) startSettings() *setting.Error {
	starts := []string{""}
	for _, s := range adapter.Method(c.Method).Starts() {
		starts = append(starts, string(s))
	}
	if !slices.Contains(starts, c.Start) {
		want := fmt.Sprintf("none: %s has one way to start", c.Method)
		if len(starts) > 1 {
			want = strings.Join(starts[1:], ", ")
		}
		return &setting.Error{Key: "start", Want: want, Got: strconv.Quote(c.Start)}
	}
	dual := len(starts) > 1
	switch {
	case !dual && c.MagnitudeRank != 0:
		return &setting.Error{Key: "magnitude-rank", Want: fmt.Sprintf("0: %s has no magnitude group", c.Method), Got: strconv.Itoa(c.MagnitudeRank)}
	case dual && (c.MagnitudeRank < 0 || c.MagnitudeRank >= c.Rank):
		return &setting.Error{Key: "magnitude-rank", Want: fmt.Sprintf("1 to %d", c.Rank-1), Got: strconv.Itoa(c.MagnitudeRank)}
	case !dual && c.MagnitudeLR != 0:
		return &setting.Error{Key: "magnitude-lr", Want: fmt.Sprintf("0: %s has no magnitude group", c.Method), Got: strconv.FormatFloat(c.MagnitudeLR, 'g', -1, 64)}
	case !dual && c.MagnitudeEvery != 0:
		return &setting.Error{Key: "magnitude-every", Want: fmt.Sprintf("0: %s has no magnitude group", c.Method), Got: strconv.Itoa(c.MagnitudeEvery)}
	case c.MagnitudeEvery > 1 && (c.Recipe().MagnitudeRanks() != 1 || c.Start == string(adapter.StartPaper)):
		return &setting.Error{Key: "magnitude-every", Want: "0 without a magnitude of one rank, as --start thin has", Got: strconv.Itoa(c.MagnitudeEvery)}
	case c.Rho != 0 && !adapter.Start(c.Start).Thin():
		return &setting.Error{Key: "rho", Want: "0 without a thin start", Got: strconv.FormatFloat(c.Rho, 'g', -1, 64)}
	}
	return setting.First(
		setting.Number("rho", c.Rho, c.Rho >= 0 && c.Rho <= 1, "a share of the weights' size from 0 to 1"),
		setting.AtLeast0("magnitude-lr", c.MagnitudeLR),
		setting.Between("magnitude-every", c.MagnitudeEvery, 0, MaxCount),
		setting.Number("delta-warmup", c.DeltaWarmup, c.DeltaWarmup >= 0 && c.DeltaWarmup <= 1, "a share of the steps from 0 to 1"),
	)
}

// WarmupSteps returns the warm-up in optimizer steps for a run of total steps.
func (c Config) WarmupSteps(total int) int {
	if c.Warmup >= 1 {
		return int(c.Warmup)
	}
	return int(math.Round(c.Warmup * float64(total)))
}

// MaxMemoryBytes returns the memory limit in bytes, 0 for none. The setting
// must have passed Validate.
func (c Config) MaxMemoryBytes() int64 {
	if c.MaxMemory == "" {
		return 0
	}
	n, _ := setting.ParseBytes(c.MaxMemory)
	return n
}

// pairs checks a setting of a pair a line.
func pairs(key, value, want string) *setting.Error {
	for _, line := range Lines(value) {
		if name, _, ok := strings.Cut(line, "="); !ok || strings.TrimSpace(name) == "" {
			return &setting.Error{Key: key, Want: want, Got: strconv.Quote(line)}
		}
	}
	return nil
}

func date(key, value string) *setting.Error {
	if _, err := time.Parse(DateLayout, value); value != "" && err != nil {
		return &setting.Error{Key: key, Want: "a day such as 2026-01-31", Got: strconv.Quote(value)}
	}
	return nil
}

// floor checks what the rate decays to. Where the peak is the usual rate it is checked again when the number of steps is known.
func floor(key string, v float64, peak Rate) *setting.Error {
	switch peak {
	case AutoRate:
		return setting.Number(key, v, v == 0, "0 with lr auto, which is not known yet")
	case Usual:
		return setting.Number(key, v, v >= 0, "0 or more")
	}
	return setting.Number(key, v, v >= 0 && v <= float64(peak), fmt.Sprintf("0 to the peak learning rate %g", float64(peak)))
}

func warmup(key string, v float64) *setting.Error {
	ok := v >= 0 && (v < 1 || v == math.Trunc(v)) && v <= MaxCount
	return setting.Number(key, v, ok, "a fraction below 1 or a whole number of steps")
}

// alpha refuses what a float32, in which files hold it, has not in full precision.
func alpha(key string, v float64) *setting.Error {
	const least = 0x1p-126
	if err := setting.AtLeast0(key, v); err != nil {
		return err
	}
	return setting.Number(key, v, v == 0 || v >= least && v <= math.MaxFloat32, fmt.Sprintf("0 or a number from %.3g to %.3g", least, math.MaxFloat32))
}

func targets(key, value string) *setting.Error {
	if value == "" {
		return &setting.Error{Key: key, Want: "all-linear, attention or a regular expression"}
	}
	if _, err := regexp.Compile(value); err != nil {
		return &setting.Error{Key: key, Want: "all-linear, attention or a regular expression", Got: strconv.Quote(value)}
	}
	return nil
}
