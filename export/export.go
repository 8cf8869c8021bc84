// Package export makes a GGUF LoRA, which llama.cpp and its apps load as it is, of what a run has trained: the best low-rank
// products under a budget that is found by measuring, those trained for a while against the model as it was trained, or the
// exact form.
//
//	c := export.DefaultConfig()
//	c.Run, c.Out = "run", "adapter.gguf"
//	result, err := export.Run(ctx, c, nil)
package export

import (
	"context"
	"errors"
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"time"

	"finetune/adapter"
	"finetune/chat"
	"finetune/device"
	"finetune/eval"
	"finetune/gguf"
	"finetune/imatrix"
	"finetune/internal/atomicfile"
	"finetune/internal/hint"
	"finetune/internal/setting"
	"finetune/model"
	"finetune/model/native"
	"finetune/quant"
	"finetune/run"
	"finetune/trainer"
	"finetune/trainer/data"

	"github.com/go-skynet/go-llama.cpp/llama"
)

// Modes of an export.
const (
	ModeProject = "project" // the best low-rank products: small, not exact
	ModeHeal    = "heal"    // those, trained for a while against the model with the adapter as it was trained
	ModeExact   = "exact"   // ΔW at full rank: as large as the weights
)

// Config says what becomes of a run.
type Config struct {
	Run       string    // the run directory
	Out       string    // the GGUF LoRA to write
	Force     bool      // replace a classifier that lies beside Out
	Mode      string    // ModeProject, ModeHeal or ModeExact
	Rank      int       // project and heal: this rank for every weight; 0 = the adapter's own if that keeps Retention, else more
	Smallest  bool      // with Rank 0: as few parameters as keep Retention, be it less than the adapter has
	Retention float64   // the share of the gain in validation loss that Rank 0 looks for, above 0 to 1
	HealSteps int       // heal: optimizer steps for each projection; 0 = a quarter of the run's, 20 to 200
	Type      gguf.Type // of the factors: F16, F32 or Q8_0
	Model     string    // the base, if it is not where config.yaml says; else empty
	Threads   int       // 0 = one per physical core
	Device    string    // that measures, as device.Choose takes it; empty = the CPU
	GPULayers int       // of the base on the device, see device.Placement
}

// DefaultConfig returns the settings of a projection in F16 to the adapter's own rank, or what more keeps 99 % of the gain.
func DefaultConfig() Config {
	return Config{Mode: ModeProject, Retention: 0.99, Type: gguf.TypeF16, Device: device.Auto, GPULayers: device.AllLayers}
}

// Validate returns the first *setting.Error in the order of the fields.
func (c Config) Validate() error {
	return setting.Check(
		setting.Needed("run", c.Run, "a run directory"),
		setting.Needed("out", c.Out, "the file to write"),
		setting.OneOf("mode", c.Mode, []string{ModeProject, ModeHeal, ModeExact}),
		setting.Between("rank", c.Rank, 0, run.MaxRank),
		setting.Number("rank", float64(c.Rank), c.Rank == 0 || !c.Smallest, "0 where the smallest is looked for"),
		setting.Number("retention", c.Retention, c.Retention > 0 && c.Retention <= 1, "a share above 0, at most 1"),
		setting.Between("heal-steps", c.HealSteps, 0, run.MaxCount),
		setting.OneOf("type", c.Type.String(), []string{"f16", "f32", "q8_0"}),
		setting.Between("threads", c.Threads, 0, run.MaxCount),
		setting.Between("gpu-layers", c.GPULayers, -1, run.MaxCount),
	)
}

// Who measured the loss of the adapter as it was trained.
const (
	ByLlama  = "llama.cpp"
	ByEngine = "engine" // the training engine: full precision where llama.cpp rounds activations, a difference of a thousandth
)

// maxExactBytes is the size in bytes of an adapter's exact form up to which llama.cpp measures what is no LoRA by it: it holds an
// adapter in memory.
const maxExactBytes = 1 << 30

// Result is what was written and what it keeps. Losses are measured on the run's validation data, those of text by llama.cpp, those
// of a task by the training engine with the file's factors, and with the run's classifier if it has one.
type Result struct {
	File       string           `json:"file"`
	Task       string           `json:"task,omitempty"`       // of the run, empty for text
	Classifier string           `json:"classifier,omitempty"` // the copy of the run's classifier beside File
	Mode       string           `json:"mode"`                 // that it came to: without healing where ModeHeal needed none
	Method     string           `json:"method"`               // of the run
	Parameters int              `json:"parameters"`
	Bytes      int64            `json:"bytes"`
	RankMin    int              `json:"rank_min"`
	RankMax    int              `json:"rank_max"`
	BaseLoss   eval.Loss        `json:"base_loss"`
	DualLoss   eval.Loss        `json:"dual_loss"`    // with the adapter as it was trained, whatever its method
	DualLossBy string           `json:"dual_loss_by"` // ByLlama or, where its exact form is too large for that, ByEngine
	ExportLoss eval.Loss        `json:"export_loss"`
	Retention  eval.Loss        `json:"retention"` // (base − export)/(base − trained)
	Tensors    []adapter.Report `json:"tensors,omitempty"`
	Tried      []Try            `json:"tried,omitempty"`
}

// Try is one projection on the way to the wanted retention.
type Try struct {
	Parameters int       `json:"parameters"`
	Retention  eval.Loss `json:"retention"`
}

// exporter is an export under way.
type exporter struct {
	Config
	run           run.Config
	base          *model.Base // that the adapter is bound to
	adapter       *adapter.Adapter
	on            device.Placement // of what measures and heals
	model         *llama.Model     // that measures
	onCPU         *llama.Model     // for the training engine: model, or the base once more where that is on a device; see engineModel
	eval          *eval.Evaluator
	train         *data.Windows
	val           []data.Window
	task          trainer.Task
	inputs        map[string][]float32 // root mean square of each weight's input channels; nil where the run did not observe them
	outputs       map[string][]float32 // that of the derivatives by its outputs
	healer        *healer              // ModeHeal
	exact         int64                // the most bytes of an exact form that is loaded
	scratch       string
	removeScratch func()
	say           func(string)
	result        Result
}

// Run writes a run's adapter as a GGUF LoRA, loads the file in llama.cpp and measures what it keeps. say, if not nil,
// is told what is being done. Nothing is written at Out when it fails.
func Run(ctx context.Context, c Config, say func(string)) (_ *Result, err error) {
	if say == nil {
		say = func(string) {}
	}
	x := &exporter{Config: c, exact: maxExactBytes, say: say}
	defer func() { err = errors.Join(err, x.close()) }()
	if err := x.open(ctx); err != nil {
		return nil, err
	}
	if err := x.measureEnds(ctx); err != nil {
		return nil, err
	}
	best, err := x.shape(ctx)
	if err != nil {
		return nil, err
	}
	return x.write(best)
}

func (x *exporter) open(ctx context.Context) (err error) {
	if err := x.openRun(); err != nil {
		return err
	}
	if x.base, err = model.Open(x.run.Model); err != nil {
		return err
	}
	id, err := x.base.Identity()
	if err != nil {
		return err
	}
	if err := x.adapter.CheckBase(id); err != nil && !errors.Is(err, adapter.ErrOtherWeights) {
		return err
	}
	if err := x.adapter.Bind(x.base.File, quant.Decode); err != nil {
		return err
	}
	if x.on, err = device.Choose(x.Device, x.GPULayers); err != nil {
		return err
	}
	if x.model, err = native.Load(x.base, x.on); err != nil {
		return err
	}
	if x.on.OnCPU() {
		x.onCPU = x.model
	}
	var val *data.Windows
	if x.train, val, err = data.LoadRun(ctx, x.run, x.model.Vocab(), chat.SourceOf(x.model), x.sayReading()); err != nil {
		return err
	}
	x.val = val.All()
	if err := x.openTask(); err != nil {
		return err
	}
	if x.eval, err = eval.NewEvaluator(x.model, x.run.Ctx, x.Threads); err != nil {
		return err
	}
	if err := x.readStatistics(); err != nil {
		return err
	}
	if x.Mode == ModeHeal {
		x.healer = x.newHealer()
	}
	x.scratch, x.removeScratch, err = atomicfile.Scratch()
	return err
}

// sayReading tells of data that takes long to read, now and then.
func (x *exporter) sayReading() func(data.Progress) {
	const interval = 20 * time.Second
	said := time.Now()
	return func(p data.Progress) {
		if time.Since(said) > interval {
			said = time.Now()
			x.say(p.String())
		}
	}
}

// openRun reads what the run was, and what it has trained.
func (x *exporter) openRun() (err error) {
	if x.run, err = run.LoadSaved(x.Config.Run); err != nil {
		return hint.With(err, "--run wants a directory that finetune train has made")
	}
	if x.run.Method == run.MethodFull {
		return run.NoAdapter(x.Config.Run)
	}
	if err := x.checkTask(); err != nil {
		return err
	}
	if x.Model != "" {
		x.run.Model = x.Model
	}
	if x.adapter, err = adapter.Load(filepath.Join(x.Config.Run, run.AdapterFile)); err != nil {
		return hint.With(err, "a run that was interrupted has no adapter yet: finish it with finetune train --resume")
	}
	return nil
}

// readStatistics reads what the run observed of the adapted weights; nothing where it has not kept that, or not of all.
func (x *exporter) readStatistics() error {
	m, err := imatrix.Load(filepath.Join(x.Config.Run, run.ImatrixFile))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	inputs, outputs := map[string][]float32{}, map[string][]float32{}
	for _, w := range x.adapter.Weights {
		nIn, nOut := w.Shape()
		e := m.Entries[w.Name]
		if len(e.Sum2) != nIn || len(e.Grad2) != nOut || e.Tokens == 0 {
			return nil
		}
		inputs[w.Name], outputs[w.Name] = e.RMS(), e.GradRMS()
	}
	x.inputs, x.outputs = inputs, outputs
	return nil
}

func (x *exporter) close() error {
	var errs []error
	if x.healer != nil {
		errs = append(errs, x.healer.close())
	}
	if x.eval != nil {
		errs = append(errs, x.eval.Close())
	}
	if x.onCPU != nil && x.onCPU != x.model {
		errs = append(errs, x.onCPU.Close())
	}
	if x.model != nil {
		errs = append(errs, x.model.Close())
	}
	if x.base != nil {
		errs = append(errs, x.base.Close())
	}
	if x.removeScratch != nil {
		x.removeScratch()
	}
	return errors.Join(errs...)
}

// write makes the file that stays: the measured one, and its figure as a key.
func (x *exporter) write(c candidate) (*Result, error) {
	x.result.ExportLoss, x.result.Retention, x.result.Tensors = c.loss, c.retention, c.reports
	a := x.adapter
	if c.low != nil {
		a = c.low
	}
	if x.result.Mode == ModeHeal && !c.healed {
		x.result.Mode = ModeProject
	}
	if !math.IsNaN(float64(x.result.Retention)) {
		if a.Meta == nil {
			a.Meta = map[string]gguf.Value{}
		}
		a.Meta[adapter.KeyRetention] = float32(x.result.Retention)
	}
	var err error
	if c.low != nil {
		err = c.low.WriteLoRA(x.Out, adapter.LoRAOptions{Type: x.Type})
	} else {
		err = x.writeExact(x.Out)
	}
	if err != nil {
		return nil, err
	}
	if err := x.writeClassifier(); err != nil {
		return nil, errors.Join(err, os.Remove(x.Out))
	}
	return x.describe()
}

// describe reads the written file back, through llama.cpp too.
func (x *exporter) describe() (*Result, error) {
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
	r.Parameters = written.Parameters()
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
