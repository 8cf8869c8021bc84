package trainer

import (
	"fmt"
	"math"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"finetune/adapter"
)

// ConfigError is a setting with a value that cannot be: the user's to mend.
type ConfigError struct {
	Key  string // the YAML key, which is also the flag without its dashes
	Want string // what is allowed
	Got  string // the value, quoted if it is text; empty if it is missing
}

// Error names the key, what is wanted and what was given.
func (e *ConfigError) Error() string {
	if e.Got == "" {
		return fmt.Sprintf("trainer: %q: missing, want %s", e.Key, e.Want)
	}
	return fmt.Sprintf("trainer: %q: want %s, got %s", e.Key, e.Want, e.Got)
}

// The largest values that are not simply mistakes.
const (
	maxRank  = 1 << 16 // above the width of any model
	maxCtx   = 1 << 24 // tokens
	maxCount = 1 << 30 // steps, epochs, sequences
)

var (
	methodNames = methods()
	deviceNames = []string{"auto", "cpu", "metal", "cuda", "vulkan"}
	longNames   = []string{"cut", "skip"}
)

// methods lists those of adapters, and full.
func methods() (names []string) {
	for _, m := range adapter.Methods() {
		names = append(names, string(m))
	}
	return append(names, MethodFull)
}

// Validate checks every setting that can be judged without the model and the
// data and returns the first *ConfigError in the order of the fields.
func (c Config) Validate() error {
	return firstError(
		needed("model", c.Model, "the path of a GGUF base model"),
		needed("data", c.Data, "the path of the training data"),
		needed("out", c.Out, "the path of the run directory"),
		below1("val-fraction", c.ValFraction),
		oneOf("method", c.Method, methodNames),
		c.adapterSettings(),
		between("ctx", c.Ctx, 2, maxCtx),
		between("batch", c.Batch, 1, maxCount),
		between("grad-accum", c.GradAccum, 1, maxCount),
		between("epochs", c.Epochs, 1, maxCount),
		between("steps", c.Steps, 0, maxCount),
		oneOf("long-records", c.LongRecords, longNames),
		above0("lr", c.LR),
		floor("min-lr", c.MinLR, c.LR),
		oneOf("schedule", c.Schedule, scheduleNames),
		warmup("warmup", c.Warmup),
		atLeast0("clip", c.Clip),
		atLeast0("weight-decay", c.WeightDecay),
		between("threads", c.Threads, 0, 1<<12),
		oneOf("device", c.Device, deviceNames),
		memory("max-memory", c.MaxMemory),
		between("eval-every", c.EvalEvery, 0, maxCount),
		between("checkpoint-every", c.CheckpointEvery, 0, maxCount),
		between("log-every", c.LogEvery, 1, maxCount),
	)
}

// adapterSettings checks the settings of an adapter, or that there are none.
func (c Config) adapterSettings() *ConfigError {
	unused := func(key, zero string, is bool, got string) *ConfigError {
		if is {
			return nil
		}
		return &ConfigError{key, zero + " with method full, which trains the base's own tensors", got}
	}
	if c.Method == MethodFull {
		return firstConfigError(
			unused("rank", "0", c.Rank == 0, strconv.Itoa(c.Rank)),
			unused("alpha", "0", c.Alpha == 0, strconv.FormatFloat(c.Alpha, 'g', -1, 64)),
			unused("targets", "none", c.Targets == "", strconv.Quote(c.Targets)),
		)
	}
	return firstConfigError(
		between("rank", c.Rank, adapter.Method(c.Method).MinRank(), maxRank),
		atLeast0("alpha", c.Alpha),
		targets("targets", c.Targets),
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
	n, _ := ParseBytes(c.MaxMemory)
	return n
}

// ParseBytes reads an amount of memory: a number with the unit B, KB, MB, GB,
// TB (powers of 1000), KiB, MiB, GiB or TiB (powers of 1024), in any case,
// with or without a space between. The result is bytes, 1 or more.
func ParseBytes(s string) (int64, error) {
	digits := strings.TrimRight(s, "BKMGTIbkmgti ")
	unit := strings.ToLower(strings.TrimSpace(s[len(digits):]))
	number, err := strconv.ParseFloat(digits, 64)
	factor, known := map[string]float64{
		"b": 1, "kb": 1e3, "mb": 1e6, "gb": 1e9, "tb": 1e12,
		"kib": 1 << 10, "mib": 1 << 20, "gib": 1 << 30, "tib": 1 << 40,
	}[unit]
	bytes := number * factor
	if err != nil || !known || !(bytes >= 1 && bytes < math.MaxInt64) {
		return 0, fmt.Errorf("trainer: memory %q: want a number with a unit, such as 4GiB or 800MB", s)
	}
	return int64(bytes), nil
}

func firstError(errs ...*ConfigError) error {
	if err := firstConfigError(errs...); err != nil {
		return err
	}
	return nil
}

func firstConfigError(errs ...*ConfigError) *ConfigError {
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}

func needed(key, value, want string) *ConfigError {
	if value == "" {
		return &ConfigError{Key: key, Want: want}
	}
	return nil
}

func oneOf(key, value string, names []string) *ConfigError {
	if slices.Contains(names, value) {
		return nil
	}
	last := len(names) - 1
	want := strings.Join(names[:last], ", ") + " or " + names[last]
	return &ConfigError{key, want, strconv.Quote(value)}
}

func between(key string, value, lowest, highest int) *ConfigError {
	if lowest <= value && value <= highest {
		return nil
	}
	want := fmt.Sprintf("%d to %d", lowest, highest)
	if value < lowest {
		want = fmt.Sprintf("%d or more", lowest)
	}
	return &ConfigError{key, want, strconv.Itoa(value)}
}

// number refuses a value for which ok is false, and with it NaN and ±Inf.
func number(key string, value float64, ok bool, want string) *ConfigError {
	if ok && !math.IsInf(value, 0) {
		return nil
	}
	return &ConfigError{key, want, strconv.FormatFloat(value, 'g', -1, 64)}
}

func above0(key string, v float64) *ConfigError {
	return number(key, v, v > 0, "a number above 0")
}

func atLeast0(key string, v float64) *ConfigError {
	return number(key, v, v >= 0, "0 or a number above")
}

func below1(key string, v float64) *ConfigError {
	return number(key, v, v >= 0 && v < 1, "a fraction from 0 to below 1")
}

func floor(key string, v, peak float64) *ConfigError {
	return number(key, v, v >= 0 && v <= peak, fmt.Sprintf("0 to the peak learning rate %g", peak))
}

func warmup(key string, v float64) *ConfigError {
	ok := v >= 0 && (v < 1 || v == math.Trunc(v)) && v <= maxCount
	return number(key, v, ok, "a fraction below 1 or a whole number of steps")
}

func targets(key, value string) *ConfigError {
	if value == "" {
		return &ConfigError{Key: key, Want: "all-linear, attention or a regular expression"}
	}
	if _, err := regexp.Compile(value); err != nil {
		return &ConfigError{key, "all-linear, attention or a regular expression", strconv.Quote(value)}
	}
	return nil
}

func memory(key, value string) *ConfigError {
	if value == "" {
		return nil
	}
	if _, err := ParseBytes(value); err != nil {
		return &ConfigError{key, "a number with a unit, such as 4GiB or 800MB", strconv.Quote(value)}
	}
	return nil
}
