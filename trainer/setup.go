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

	llama "github.com/go-skynet/go-llama.cpp"
)

// setup is what a run works with: all that can be wrong with the base, the data or their fit shows while it is made.
type setup struct {
	config  Config
	model   *llama.Model
	learner learner
	train   *data.Windows
	val     *data.Windows // nil: nothing is held out
	blank   data.Window
	engine  *graph.Engine
	seqs    int // sequences in one forward pass: Batch, or a part of it when memory is short
}

// newSetup checks what is cheap first: the header of the base, the targets and the rank, then the data, then the graph.
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

// mostSequences is LLAMA_MAX_SEQ, above which llama.cpp makes no context to trace.
const mostSequences = 256

// newEngine builds the training graph. Where memory is short it recomputes more, and when that is not enough the batch
// goes through in smaller parts.
func (s *setup) newEngine() (err error) {
	_, parameters := s.learner.size()
	limit := WorkLimit(int64(s.model.Bytes()), parameters, s.config.MaxMemoryBytes())
	for s.seqs = min(s.config.Batch, mostSequences); ; s.seqs = (s.seqs + 1) / 2 {
		s.engine, err = s.learner.engine(s.model, graph.Options{
			Shape: graph.Shape{Ctx: s.config.Ctx, Seqs: s.seqs}, Threads: s.config.threads(), Limit: limit,
		})
		if err != nil {
			return err
		}
		if s.engine.WorkBytes() <= limit || s.config.MaxMemory == "" && s.seqs == 1 {
			break
		}
		if s.seqs == 1 {
			return s.tooSmall()
		}
		s.engine.Close()
		s.engine = nil
	}
	if names := s.engine.Unreached(); len(names) > 0 {
		return s.learner.unreached(names[0])
	}
	return nil
}

// tooSmall says what one sequence needs when all that can be recomputed is.
func (s *setup) tooSmall() error {
	_, parameters := s.learner.size()
	fixed := fixedBytes(int64(s.model.Bytes()), parameters)
	return hint.With(fmt.Errorf("trainer: max-memory %s: one sequence of %d tokens needs %d MiB: %d for the base and what is trained, %d for activations",
		s.config.MaxMemory, s.config.Ctx, (fixed+s.engine.WorkBytes())>>20, fixed>>20, s.engine.WorkBytes()>>20),
		s.learner.leaner())
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
	var sum, weight float64
	for i := 0; i < length(s.val); i += s.seqs {
		if err := ctx.Err(); err != nil {
			return notMeasured, err
		}
		var windows []data.Window
		for k := i; k < min(i+s.seqs, s.val.Len()); k++ {
			windows = append(windows, s.val.At(k))
		}
		loss, err := s.engine.Loss(s.fill(windows))
		if err != nil {
			return notMeasured, err
		}
		sum += loss
		weight += totalWeight(windows)
	}
	if weight == 0 {
		return notMeasured, nil
	}
	return Loss(sum / weight), nil
}

// fill adds blank windows, of which nothing is trained, up to the engine's number of sequences.
func (s *setup) fill(windows []data.Window) []data.Window {
	for len(windows) < s.seqs {
		windows = append(windows[:len(windows):len(windows)], s.blank)
	}
	return windows
}
