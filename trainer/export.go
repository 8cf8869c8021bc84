package trainer

import (
	"context"
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"

	"finetune/adapter"
	"finetune/gguf"
	"finetune/internal/hint"
	"finetune/trainer/data"

	llama "github.com/go-skynet/go-llama.cpp"
)

// Modes of Export.
const (
	ModeProject = "project" // the best low-rank products: small, not exact
	ModeExact   = "exact"   // ΔW at full rank: as large as the weights
)

// KeyRetention is the key of an exported file that holds the share of the gain it keeps, a float32.
const KeyRetention = "finetune.retention"

// ExportConfig says what becomes of a run.
type ExportConfig struct {
	Run       string    // the run directory
	Out       string    // the GGUF LoRA to write
	Mode      string    // ModeProject or ModeExact
	Rank      int       // project: this rank for every weight; 0 = a rank for each, as few as keep Retention
	Retention float64   // the share of the gain in validation loss that Rank 0 looks for, above 0 to 1
	Type      gguf.Type // of the factors: F16, F32 or Q8_0
	Model     string    // the base, if it is not where config.yaml says; else empty
	Threads   int       // 0 = one a physical core
}

// DefaultExportConfig is project, in F16, as small as keeps 99 % of the gain.
func DefaultExportConfig() ExportConfig {
	return ExportConfig{Mode: ModeProject, Retention: 0.99, Type: gguf.TypeF16}
}

// Validate returns the first *ConfigError in the order of the fields.
func (c ExportConfig) Validate() error {
	return firstError(
		needed("run", c.Run, "a run directory"),
		needed("out", c.Out, "the file to write"),
		oneOf("mode", c.Mode, []string{ModeProject, ModeExact}),
		between("rank", c.Rank, 0, maxRank),
		number("retention", c.Retention, c.Retention > 0 && c.Retention <= 1, "a share above 0, at most 1"),
		oneOf("type", c.Type.String(), []string{"f16", "f32", "q8_0"}),
		between("threads", c.Threads, 0, maxCount),
	)
}

// ExportResult is what was written and what it keeps. Losses are measured by llama.cpp on the run's validation data.
type ExportResult struct {
	File       string           `json:"file"`
	Mode       string           `json:"mode"`
	Method     string           `json:"method"` // of the run
	Parameters int              `json:"parameters"`
	Bytes      int64            `json:"bytes"`
	RankMin    int              `json:"rank_min"`
	RankMax    int              `json:"rank_max"`
	BaseLoss   Loss             `json:"base_loss"`
	DualLoss   Loss             `json:"dual_loss"` // with the adapter as it was trained, whatever its method
	ExportLoss Loss             `json:"export_loss"`
	Retention  Loss             `json:"retention"` // (base − export)/(base − trained)
	Tensors    []adapter.Report `json:"tensors,omitempty"`
	Tried      []ExportTry      `json:"tried,omitempty"`
}

// ExportTry is one projection on the way to the wanted retention.
type ExportTry struct {
	Parameters int  `json:"parameters"`
	Retention  Loss `json:"retention"`
}

// Budgets of the search, as multiples of the adapter's own parameters: doubled from the first until one keeps enough,
// then narrowed between the last two.
const (
	firstBudget    = 1
	lastBudget     = 8
	unmeasured     = 2 // without validation data, or without a gain on it
	narrowingSteps = 2
)

// exporter is an export under way.
type exporter struct {
	ExportConfig
	run     Config
	adapter *adapter.Adapter
	model   *llama.Model
	eval    *Evaluator
	val     []data.Window
	scratch string
	say     func(string)
	result  ExportResult
}

// Export writes a run's adapter as a GGUF LoRA, loads the file in llama.cpp and measures what it keeps. say, if not nil,
// is told what is being done. Nothing is written at Out when it fails.
func Export(ctx context.Context, c ExportConfig, say func(string)) (_ *ExportResult, err error) {
	if say == nil {
		say = func(string) {}
	}
	x := &exporter{ExportConfig: c, say: say}
	defer func() { err = errors.Join(err, x.close()) }()
	if err := x.open(); err != nil {
		return nil, err
	}
	if err := x.measureEnds(ctx); err != nil {
		return nil, err
	}
	low, reports, err := x.shape(ctx)
	if err != nil {
		return nil, err
	}
	return x.write(low, reports)
}

func (x *exporter) open() (err error) {
	if x.run, err = LoadConfig(filepath.Join(x.Run, ConfigFile)); err != nil {
		return hint.With(err, "--run wants a directory that finetune train has made")
	}
	if x.run.Method == MethodFull {
		return wholeModel(x.Run)
	}
	if x.Model != "" {
		x.run.Model = x.Model
	}
	if x.adapter, err = adapter.Load(filepath.Join(x.Run, AdapterFile)); err != nil {
		return hint.With(err, "a run that was interrupted has no adapter yet: finish it with finetune train --resume")
	}
	if err := checkBase(x.adapter, x.run.Model); err != nil {
		return err
	}
	if x.model, err = LoadBase(x.run.Model); err != nil {
		return err
	}
	val, err := LoadValidation(x.model, x.run)
	if err != nil {
		return err
	}
	for i := range length(val) {
		x.val = append(x.val, val.At(i))
	}
	if x.eval, err = NewEvaluator(x.model, x.run.Ctx, x.Threads); err != nil {
		return err
	}
	x.scratch, err = os.MkdirTemp("", "finetune-export-")
	return err
}

// CheckAdapter refuses an adapter, in a file or in a run directory, that does not fit a base. One that fits but was made
// for another base is an adapter.ErrOtherBase.
func CheckAdapter(path, model string) error {
	file, err := AdapterPath(path)
	if err != nil {
		return err
	}
	a, err := adapter.Open(file)
	if err != nil {
		return err
	}
	defer a.Close()
	return checkBase(a, model)
}

func checkBase(a interface{ CheckBase(adapter.Base) error }, model string) error {
	f, err := OpenBase(model)
	if err != nil {
		return err
	}
	defer f.Close()
	base, err := adapter.ReadBase(f)
	if err != nil {
		return err
	}
	return a.CheckBase(base)
}

func (x *exporter) close() error {
	var errs []error
	if x.eval != nil {
		errs = append(errs, x.eval.Close())
	}
	if x.model != nil {
		errs = append(errs, x.model.Close())
	}
	if x.scratch != "" {
		errs = append(errs, os.RemoveAll(x.scratch))
	}
	return errors.Join(errs...)
}

// measureEnds finds the losses that retention is measured between: of the base, and of the adapter as it was trained.
func (x *exporter) measureEnds(ctx context.Context) (err error) {
	x.result = ExportResult{File: x.Out, Mode: x.Mode, Method: string(x.adapter.Method()),
		BaseLoss: notMeasured, DualLoss: notMeasured, ExportLoss: notMeasured, Retention: notMeasured}
	if len(x.val) == 0 {
		return nil
	}
	x.say("measuring the base")
	if x.result.BaseLoss, err = x.eval.Loss(ctx, x.val, nil); err != nil {
		return err
	}
	x.say("measuring the adapter as it was trained")
	x.result.DualLoss, err = x.lossWith(ctx, filepath.Join(x.Run, AdapterFile))
	return err
}

func (x *exporter) lossWith(ctx context.Context, path string) (loss Loss, err error) {
	detach, err := x.eval.Attach(path, 1)
	if err != nil {
		return notMeasured, err
	}
	defer func() { err = errors.Join(err, detach()) }()
	return x.eval.Loss(ctx, x.val, nil)
}

// shape gives the adapter the form it will be written in, and measures that form. low is nil for the exact form.
func (x *exporter) shape(ctx context.Context) (low *adapter.Adapter, reports []adapter.Report, err error) {
	if x.Mode == ModeExact || x.adapter.Method() == adapter.MethodLoRA && x.Rank == 0 {
		x.result.Mode = ModeExact // a LoRA is its own exact form
		return nil, nil, x.measure(ctx, x.writeExact)
	}
	own := x.adapter.Parameters()
	largest := lastBudget * own
	x.say("decomposing ΔW")
	d, err := adapter.Decompose(ctx, x.adapter, adapter.DecomposeOptions{Budget: x.largestBudget(largest), Seed: x.run.Seed})
	if err != nil {
		return nil, nil, err
	}
	if x.Rank > 0 {
		ranks, err := d.Uniform(x.Rank)
		if err != nil {
			return nil, nil, err
		}
		return x.cut(ctx, d, ranks)
	}
	return x.search(ctx, d, max(own, d.MinBudget()))
}

// largestBudget is what the decomposition has to be good for.
func (x *exporter) largestBudget(largest int) int {
	if x.Rank == 0 {
		return largest
	}
	sum := 0
	for _, w := range x.adapter.Weights {
		nIn, nOut := w.Shape()
		sum += x.Rank * (nIn + nOut)
	}
	return sum
}

// search looks for the smallest budget that keeps the wanted share.
func (x *exporter) search(ctx context.Context, d *adapter.Decomposition, own int) (*adapter.Adapter, []adapter.Report, error) {
	if len(x.val) == 0 || x.result.BaseLoss <= x.result.DualLoss {
		return x.budget(ctx, d, unmeasured*own)
	}
	try := func(budget int) (enough bool, low *adapter.Adapter, reports []adapter.Report, err error) {
		if low, reports, err = x.budget(ctx, d, budget); err != nil {
			return false, nil, nil, err
		}
		x.result.Tried = append(x.result.Tried, ExportTry{low.Parameters(), x.result.Retention})
		return float64(x.result.Retention) >= x.Retention, low, reports, nil
	}
	tooSmall, budget := 0, firstBudget*own
	enough, low, reports, err := try(budget)
	for err == nil && !enough && 2*budget <= lastBudget*own {
		tooSmall, budget = budget, 2*budget
		enough, low, reports, err = try(budget)
	}
	if err != nil || !enough || tooSmall == 0 {
		return low, reports, err
	}
	best := x.result
	for range narrowingSteps {
		middle := int(math.Sqrt(float64(tooSmall) * float64(budget)))
		ok, l, r, err := try(middle)
		if err != nil {
			return nil, nil, err
		}
		if ok {
			budget, low, reports, best = middle, l, r, x.result
		} else {
			tooSmall = middle
		}
	}
	best.Tried = x.result.Tried
	x.result = best
	return low, reports, nil
}

func (x *exporter) budget(ctx context.Context, d *adapter.Decomposition, budget int) (*adapter.Adapter, []adapter.Report, error) {
	ranks, err := d.Allocate(budget)
	if err != nil {
		return nil, nil, err
	}
	return x.cut(ctx, d, ranks)
}

// cut projects to the ranks and measures the result.
func (x *exporter) cut(ctx context.Context, d *adapter.Decomposition, ranks []int) (*adapter.Adapter, []adapter.Report, error) {
	low, reports, err := d.Project(ranks)
	if err != nil {
		return nil, nil, err
	}
	x.say(fmt.Sprintf("measuring a projection of %d parameters", low.Parameters()))
	return low, reports, x.measure(ctx, func(path string) error { return low.WriteLoRA(path, adapter.LoRAOptions{Type: x.Type}) })
}

// measure writes a candidate to a scratch file and takes its loss as llama.cpp finds it.
func (x *exporter) measure(ctx context.Context, write func(path string) error) error {
	path := filepath.Join(x.scratch, "candidate.gguf")
	if err := write(path); err != nil {
		return err
	}
	if len(x.val) == 0 {
		return nil
	}
	loss, err := x.lossWith(ctx, path)
	if err != nil {
		return err
	}
	x.result.ExportLoss = loss
	if gain := x.result.BaseLoss - x.result.DualLoss; gain > 0 {
		x.result.Retention = (x.result.BaseLoss - loss) / gain
	}
	return nil
}

func (x *exporter) writeExact(path string) error {
	return x.adapter.WriteExact(path, adapter.LoRAOptions{Type: x.Type})
}

// write makes the file that stays: the measured one, and its figure as a key.
func (x *exporter) write(low *adapter.Adapter, reports []adapter.Report) (*ExportResult, error) {
	a := x.adapter
	if low != nil {
		a = low
	}
	if !math.IsNaN(float64(x.result.Retention)) {
		if a.Meta == nil {
			a.Meta = map[string]gguf.Value{}
		}
		a.Meta[KeyRetention] = float32(x.result.Retention)
	}
	var err error
	if low != nil {
		err = low.WriteLoRA(x.Out, adapter.LoRAOptions{Type: x.Type})
	} else {
		err = x.writeExact(x.Out)
	}
	if err != nil {
		return nil, err
	}
	return x.describe(reports)
}

// describe reads the written file back, through llama.cpp too.
func (x *exporter) describe(reports []adapter.Report) (*ExportResult, error) {
	detach, err := x.eval.Attach(x.Out, 1)
	if err != nil {
		return nil, errors.Join(err, os.Remove(x.Out))
	}
	if err := detach(); err != nil {
		return nil, err
	}
	written, err := adapter.Load(x.Out)
	if err != nil {
		return nil, err
	}
	r := &x.result
	r.Tensors, r.Parameters = reports, written.Parameters()
	for i, w := range written.Weights {
		if rank := w.Rank(); i == 0 || rank < r.RankMin {
			r.RankMin = rank
		}
		r.RankMax = max(r.RankMax, w.Rank())
	}
	info, err := os.Stat(x.Out)
	if err != nil {
		return nil, err
	}
	r.Bytes = info.Size()
	return r, nil
}
