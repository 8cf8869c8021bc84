package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"slices"
	"strconv"
	"text/tabwriter"

	"finetune/gguf"
	"finetune/internal/hint"
	"finetune/internal/setting"
	"finetune/newmodel"
	"finetune/trainer/data"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// initFlags are those of finetune init-model.
type initFlags struct {
	spec      newmodel.Spec
	kind      string   // --type
	texts     []string // --train-bpe
	vocabSize int
	vocabFrom string
	out       string
	force     bool
}

// initReport is what finetune init-model prints.
type initReport struct {
	File         string `json:"file"`
	Bytes        int64  `json:"bytes"` // of the file
	Architecture string `json:"architecture"`
	Parameters   int64  `json:"parameters"`
	Type         string `json:"type"`
	Layers       int    `json:"layers"`
	Embd         int    `json:"embd"`
	Heads        int    `json:"heads"`
	HeadsKV      int    `json:"heads_kv"`
	HeadDim      int    `json:"head_dim"`
	FF           int    `json:"ff"`
	Ctx          int    `json:"ctx"`
	Tied         bool   `json:"tied"`
	Vocabulary   int    `json:"vocabulary"`

	// Of the texts that the tokenizer was learned from.
	TextBytes     int64   `json:"text_bytes,omitempty"`
	TextTokens    int64   `json:"text_tokens,omitempty"`
	BytesPerToken float64 `json:"bytes_per_token,omitempty"`
}

func initModelCommand(u *ui) *cobra.Command {
	f := initFlags{spec: newmodel.DefaultSpec(), vocabSize: 2048}
	cmd := &cobra.Command{
		Use:   "init-model (--train-bpe TEXT … | --vocab-from FILE) --out base.gguf",
		Short: "write an untrained base model of any size",
		Long: "Init-model writes a GGUF with the weights that a training from scratch starts with, and\n" +
			"a tokenizer: one that is learned from texts or records, or that of another GGUF. The same\n" +
			"texts, flags and seed give the same bytes on every machine.",
		Example: "  finetune init-model --train-bpe train.txt --out base.gguf\n" +
			"  finetune init-model --arch qwen3 --layers 8 --embd 512 --heads 8 --heads-kv 2 --vocab-from other.gguf --out base.gguf",
		Args: exactly(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := f.finish(cmd); err != nil {
				return err
			}
			r, err := initModel(cmd.Context(), u, f)
			if err != nil {
				return err
			}
			if u.json {
				return u.printJSON(r)
			}
			return printInit(u.results(), r)
		},
	}
	cmd.Flags().SortFlags = false
	f.define(cmd.Flags())
	required(cmd, "out")
	return cmd
}

// define defines a flag for each setting.
func (f *initFlags) define(flags *pflag.FlagSet) {
	s := &f.spec
	flags.StringVar(&f.out, "out", "", "model to write, a GGUF `FILE`")
	flags.BoolVar(&f.force, "force", false, "replace --out if it exists")
	flags.StringArrayVar(&f.texts, "train-bpe", nil, "learn a tokenizer from a .txt, .jsonl or .json `FILE`; may be given several times")
	flags.IntVar(&f.vocabSize, "vocab-size", f.vocabSize, "tokens that --train-bpe learns, 256 bytes and 3 control tokens included")
	flags.StringVar(&f.vocabFrom, "vocab-from", "", "take the tokenizer of a GGUF `FILE`")

	flags.StringVar(&s.Arch, "arch", s.Arch, "architecture: llama, qwen3, gemma3, gpt2 and others")
	flags.StringVar(&s.Name, "name", s.Name, "name of the model, in its metadata")
	flags.IntVar(&s.Layers, "layers", s.Layers, "blocks")
	flags.IntVar(&s.Embd, "embd", s.Embd, "width of the model")
	flags.IntVar(&s.Heads, "heads", s.Heads, "query heads")
	flags.IntVar(&s.HeadsKV, "heads-kv", s.HeadsKV, "key and value heads; 0 is as many as --heads")
	flags.IntVar(&s.HeadDim, "head-dim", s.HeadDim, "width of a head; 0 is --embd through --heads")
	flags.IntVar(&s.FF, "ff", s.FF, "width of the feed-forward network; 0 is 8/3 of --embd, or 4 times where it has no gate")
	flags.IntVar(&s.Ctx, "ctx", s.Ctx, "longest sequence in tokens")
	flags.Float64Var(&s.RopeBase, "rope-base", s.RopeBase, "base of the rotary positions")
	flags.Float64Var(&s.Epsilon, "norm-eps", s.Epsilon, "epsilon of the norms")
	flags.BoolVar(&s.Tied, "tied", s.Tied, "use the embeddings as output matrix too, where the architecture can")

	flags.StringVar(&f.kind, "type", s.Type.String(), "type of the matrices: f32, f16 or bf16")
	flags.Float64Var(&s.InitStd, "init-std", s.InitStd, "standard deviation of the weights; 0 is 1/√n_in of each matrix")
	flags.Uint64Var(&s.Seed, "seed", s.Seed, "seed of the weights")
}

// finish reads what the flag parser leaves as text, and what depends on other flags.
func (f *initFlags) finish(cmd *cobra.Command) error {
	if (len(f.texts) > 0) == (f.vocabFrom != "") {
		return wrongUsage(cmd, "want either --train-bpe or --vocab-from")
	}
	kind, err := gguf.ParseType(f.kind)
	if err != nil || !slices.Contains([]gguf.Type{gguf.TypeF32, gguf.TypeF16, gguf.TypeBF16}, kind) {
		bad := &setting.Error{Key: "type", Want: "f32, f16 or bf16", Got: strconv.Quote(f.kind)}
		return hint.With(bad, "a model is trained first and quantized afterwards")
	}
	f.spec.Type = kind
	if !cmd.Flags().Changed("tied") {
		f.spec.Tied = newmodel.CanTie(f.spec.Arch)
	}
	return checkOut(f.out, f.force, append(slices.Clone(f.texts), f.vocabFrom)...)
}

// initModel makes the tokenizer, then the model around it.
func initModel(ctx context.Context, u *ui, f initFlags) (*initReport, error) {
	r := &initReport{File: f.out, Type: f.spec.Type.String()}
	var err error
	if f.vocabFrom != "" {
		f.spec.Vocabulary, err = newmodel.ReadVocabulary(f.vocabFrom)
	} else {
		f.spec.Vocabulary, err = learnVocabulary(ctx, u, f, r)
	}
	if err != nil {
		return nil, err
	}
	m, err := newmodel.New(f.spec)
	if err != nil {
		return nil, err
	}
	if err := m.WriteFile(f.out); err != nil {
		return nil, err
	}
	info, err := os.Stat(f.out)
	if err != nil {
		return nil, err
	}
	s := m.Spec()
	r.Bytes, r.Architecture, r.Parameters, r.Vocabulary = info.Size(), s.Arch, m.Parameters(), s.Vocabulary.Len()
	r.Layers, r.Embd, r.Heads, r.HeadsKV, r.HeadDim = s.Layers, s.Embd, s.Heads, s.HeadsKV, s.HeadDim
	r.FF, r.Ctx, r.Tied = s.FF, s.Ctx, s.Tied
	return r, nil
}

// learnVocabulary learns the tokenizer and measures it on what it was learned from.
func learnVocabulary(ctx context.Context, u *ui, f initFlags, r *initReport) (*newmodel.Vocabulary, error) {
	var texts []string
	for _, path := range f.texts {
		for text, err := range data.Texts(ctx, path) {
			if err != nil {
				return nil, err
			}
			texts = append(texts, text)
		}
	}
	u.progress("learning a tokenizer of %s tokens", thousands(int64(f.vocabSize)))
	bpe, err := newmodel.TrainBPE(slices.Values(texts), f.vocabSize)
	if err != nil {
		return nil, err
	}
	r.TextBytes, r.TextTokens = bpe.Count(slices.Values(texts))
	r.BytesPerToken = float64(r.TextBytes) / float64(r.TextTokens)
	return bpe.Vocabulary(), nil
}

func printInit(w io.Writer, r *initReport) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	row := func(name, format string, args ...any) { fmt.Fprintf(t, "%s\t%s\n", name, fmt.Sprintf(format, args...)) }
	output := "an output matrix of its own"
	if r.Tied {
		output = "the embeddings as output matrix"
	}
	row("file", "%s, %s bytes, untrained", plain(r.File), thousands(r.Bytes))
	row("architecture", "%s, %s of %d, %s of %d (%d for keys), feed-forward %d, context %d", r.Architecture,
		count(r.Layers, "layer"), r.Embd, count(r.Heads, "head"), r.HeadDim, r.HeadsKV, r.FF, r.Ctx)
	row("parameters", "%s in %s, %s", thousands(r.Parameters), r.Type, output)
	row("vocabulary", "%s", count(r.Vocabulary, "token"))
	if r.TextTokens > 0 {
		row("bytes a token", "%.3f over the %s bytes that it was learned from", r.BytesPerToken, thousands(r.TextBytes))
	}
	return t.Flush()
}
