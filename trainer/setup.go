package trainer

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"

	"finetune/gguf"
	"finetune/internal/hint"
	"finetune/trainer/data"
	"finetune/trainer/graph"

	"github.com/go-skynet/go-llama.cpp/llama"
)

// setup is what a run works with: all that can be wrong with the base, the data or their fit shows while it is made.
type setup struct {
	config  Config
	model   *llama.Model
	learner learner
	train   *data.Windows
	val     *data.Windows // nil: nothing is held out
	blank   data.Window
	weights int64 // bytes of the base's tensors
	vocab   int64 // bytes of its vocabulary in memory
	engine  *graph.Engine
	plan    Plan
	pace    *pace // of steps
	valPace *pace // of validations, which are less work a sequence
	seqs    int   // sequences in one forward pass: Batch, or a part of it when memory is short
}

// newSetup checks what is cheap first: the header of the base, the targets and the rank, then the data, then the graph. The
// memory of the run is planned when it returns, and nothing of it taken.
func newSetup(c Config) (_ *setup, err error) {
	s := &setup{config: c}
	defer func() {
		if err != nil {
			s.close()
		}
	}()
	if err := checkDevice(c.Device); err != nil {
		return nil, err
	}
	if s.learner, err = newLearner(c); err != nil {
		return nil, err
	}
	if err = s.readHeader(); err != nil {
		return nil, err
	}
	if err = s.checkOpening(); err != nil {
		return nil, err
	}
	if s.model, err = LoadBase(c.Model); err != nil {
		return nil, err
	}
	if err := checkContext(s.model, c.Ctx); err != nil {
		return nil, err
	}
	if s.train, s.val, err = loadData(s.model, c); err != nil {
		return nil, err
	}
	s.blank = data.Blank(c.Ctx)
	return s, s.newEngine()
}

func (s *setup) close() error {
	var err error
	if s.engine != nil {
		err = s.engine.Close()
	}
	if s.model != nil {
		err = errors.Join(err, s.model.Close())
	}
	if s.learner != nil {
		err = errors.Join(err, s.learner.close())
	}
	return err
}

// checkDevice refuses a device that this build cannot train on.
func checkDevice(device string) error {
	if device == "auto" || device == "cpu" {
		return nil
	}
	return hint.With(fmt.Errorf("trainer: device %q: this build trains on the CPU only", device), "leave --device out")
}

// readHeader reads what the base's file says before any of it is loaded.
func (s *setup) readHeader() error {
	f, err := OpenBase(s.config.Model)
	if err != nil {
		return err
	}
	defer f.Close()
	s.vocab = VocabBytes(f)
	for _, t := range f.Tensors() {
		s.weights += t.Bytes()
	}
	return nil
}

// checkOpening refuses a base that is above the limit on memory as soon as it is opened: llama.cpp maps the whole file at
// once. What was mapped can be let go afterwards.
func (s *setup) checkOpening() error {
	most := s.config.MaxMemoryBytes()
	_, parameters := s.learner.size()
	p := Plan{Weights: s.weights, Adapter: 4 * int64(parameters), Vocabulary: s.vocab, Program: programBytes}
	if most == 0 || p.Total() <= keepable(most) {
		return nil
	}
	return hint.With(&MemoryError{What: "opening the base", Plan: p, MaxMemory: most}, "a base of a type with fewer bits needs less")
}

// OpenBase opens the header of a base model. An adapter, or a file with a tokenizer and no weights, is an error.
func OpenBase(path string) (*gguf.File, error) {
	f, err := gguf.Open(path)
	if err != nil {
		return nil, err
	}
	if kind, _ := f.String("general.type"); kind == "adapter" {
		f.Close()
		return nil, hint.With(fmt.Errorf("trainer: model %q: holds an adapter, want a base model", path),
			"pass the base as --model and the adapter as --adapter")
	}
	if _, ok := f.Tensor("token_embd.weight"); !ok {
		f.Close()
		return nil, fmt.Errorf("trainer: model %q: holds no weights (no tensor \"token_embd.weight\"), want a whole model", path)
	}
	return f, nil
}

// LoadBase opens a base model in llama.cpp, after OpenBase found that it is one.
func LoadBase(path string) (*llama.Model, error) {
	f, err := OpenBase(path)
	if err != nil {
		return nil, err
	}
	f.Close()
	return llama.LoadModel(path, llama.ModelParams{})
}

// checkContext refuses a context that the base was not made for.
func checkContext(m *llama.Model, ctx int) error {
	if most := m.NCtxTrain(); most > 0 && ctx > most {
		return hint.With(fmt.Errorf("trainer: ctx %d: the model %q was trained on at most %d tokens", ctx, m.Path(), most),
			fmt.Sprintf("--ctx %d is the most that it takes", most))
	}
	return nil
}

// newEngine builds the training graph and plans the memory of the run. It takes none of it yet.
func (s *setup) newEngine() (err error) {
	if s.engine, s.plan, err = s.demand().Engine(); err != nil {
		return err
	}
	s.seqs, s.pace, s.valPace = s.plan.MicroBatch, newPace(s.config.threads()), newPace(s.config.threads())
	if names := s.engine.Unreached(); len(names) > 0 {
		return s.learner.unreached(names[0])
	}
	return nil
}

func (s *setup) demand() Demand {
	_, parameters := s.learner.size()
	return Demand{Model: s.model, Parameters: parameters, Leaner: s.learner.leaner(), Vocab: s.vocab, Data: s.dataBytes(), Optimizer: true,
		Ctx: s.config.Ctx, Batch: s.config.Batch, Threads: s.config.threads(), MaxMemory: s.config.MaxMemoryBytes(),
		Prepare: func(o graph.Options) (*graph.Engine, error) { return s.learner.prepare(s.model, o) }}
}

// dataBytes is what the training and validation data take.
func (s *setup) dataBytes() int64 {
	n := s.train.Bytes()
	if s.val != nil {
		n += s.val.Bytes()
	}
	return n
}

// threads is the number to compute with.
func (c Config) threads() int {
	if c.Threads > 0 {
		return c.Threads
	}
	return PhysicalCores()
}

// identity is a hash over everything that decides what the run learns: settings, base and data. A checkpoint of another
// identity cannot be continued.
func (s *setup) identity() (sum [sha256.Size]byte) {
	h := sha256.New()
	config := s.config.Hash()
	h.Write(config[:])
	h.Write([]byte(s.learner.base()))
	for _, windows := range []*data.Windows{s.train, s.val} {
		for i := range length(windows) {
			w := windows.At(i)
			for _, part := range []any{w.Tokens, w.Targets, w.Pos, w.Doc, w.Weight} {
				binary.Write(h, binary.LittleEndian, part) // a hash does not fail
			}
		}
	}
	return [sha256.Size]byte(h.Sum(nil))
}

// validate is the mean validation loss with the factors as they are.
func (s *setup) validate(ctx context.Context) (Loss, error) {
	return lossByEngine(ctx, s.engine, s.valPace, length(s.val), func(i int) data.Window { return s.val.At(i) })
}

// fill adds blank windows, of which nothing is trained, up to the engine's number of sequences.
func (s *setup) fill(windows []data.Window) []data.Window { return fill(windows, s.seqs, s.blank) }

// fill adds blank windows up to n.
func fill(windows []data.Window, n int, blank data.Window) []data.Window {
	for len(windows) < n {
		windows = append(windows[:len(windows):len(windows)], blank)
	}
	return windows
}
