// Package convert turns LoRA adapters into one another's files: PEFT's folder, the
// GGUF LoRA of llama.cpp, and the folder of mlx-lm.
//
//	report, err := convert.Run(convert.Config{From: "peft/", To: convert.GGUF, Model: "base.gguf", Out: "adapter.gguf"})
//
// The three agree on ΔW = scale·B·A and on little else. What differs is undone
// exactly, so that an adapter in F32 comes back from another format with the same
// bytes:
//
//   - Names, by the architecture of the base (names.go).
//   - The order of rows: where llama.cpp's converter moved rows of q and k, or of a
//     fused qkv, B's rows are moved in the same way (rows.go); projections that are
//     one matrix there and three here are divided and joined (pair.go).
//   - The scale: GGUF has one alpha and MLX one scale for the file, PEFT a rule with
//     patterns. What one number cannot say is folded into B (scale.go).
//   - The layout: MLX stores transposed matrices, and experts in one tensor.
//
// A DoRA of PEFT becomes a file of this project's own, for package merge: of the three
// formats no other holds it (dora.go).
//
// The classifier of PEFT's SEQ_CLS, a module that was trained whole, becomes a file of
// package classify beside the GGUF (classifier.go), and goes back into PEFT's folder.
//
// Refused, with advice, is what the wanted format cannot hold: other whole modules trained
// along, biases, adapted heads that share the embeddings' weights, and the Dual LoRA of
// this project, which has to be exported first.
//
// Files come from elsewhere: nothing in them names a file, is allocated by an
// unchecked count, or is written before all of it was read. PEFT's folder is
// described at https://huggingface.co/docs/peft/developer_guides/checkpoint.
package convert

import (
	"fmt"
	"slices"
	"strings"

	"finetune/classify"
)

// Format is one of the three forms of an adapter.
type Format string

// The formats, as --to has them.
const (
	GGUF Format = "gguf" // a file
	PEFT Format = "peft" // a folder
	MLX  Format = "mlx"  // a folder
)

// ParseFormat reads "gguf", "peft" or "mlx".
func ParseFormat(s string) (Format, error) {
	if f := Format(s); slices.Contains([]Format{GGUF, PEFT, MLX}, f) {
		return f, nil
	}
	return "", fmt.Errorf("convert: format %q: want gguf, peft or mlx", s)
}

// Config says what to convert. All fields but Force are needed.
type Config struct {
	From  string // adapter: a GGUF LoRA, a PEFT folder or an MLX folder
	To    Format
	Model string // base of the adapter, a GGUF of any quantization
	Out   string // file or folder to write

	// Transformers is a folder of the base as transformers has it, with config.json and
	// model.safetensors: of a BERT with a classifier it gives the pooler, which no GGUF has,
	// and it gives names of classes. Empty is none.
	Transformers string

	// AdapterOnly leaves the classifier of a PEFT folder out.
	AdapterOnly bool

	// Force replaces Out: a file, or a folder that holds nothing but an adapter; and the
	// classifier beside a file.
	Force bool
}

// lora is an adapter on modules of transformers, whichever file it comes from.
type lora struct {
	pairs map[string]pair // by module: the keys are names of baseModel.modules

	wrapper    string   // what the language model is called inside a larger one, see unwrap …
	named      bool     // … once that is known
	baseName   string   // of the model in transformers; may be empty
	invocation []uint32 // tokens that switch an aLoRA on, else nil

	head *classify.Head // nil: none

	close func() error // of the file that the pairs read
}

// Run converts an adapter and returns what was done. The output appears whole or not
// at all. Errors are *FormatError and *UnsupportedError, those of packages gguf and
// safetensors, and those of the file system; many carry a hint.
func Run(c Config) (*Report, error) {
	if _, err := ParseFormat(string(c.To)); err != nil {
		return nil, err
	}
	from, err := formatOf(c.From)
	if err != nil {
		return nil, err
	}
	if err := c.checkOut(from); err != nil {
		return nil, err
	}
	m, err := openModel(c.Model)
	if err != nil {
		return nil, err
	}
	r := &Report{From: c.From, FromFormat: from, ToFormat: c.To, File: c.Out, Architecture: m.Architecture,
		Divided: []string{}, Joined: []string{}, Folded: []Folded{}, Notes: []string{}}
	if (from == MLX || c.To == MLX) && slices.Equal(m.mlx, noMLX) {
		return nil, &UnsupportedError{c.Model, fmt.Sprintf("mlx-lm has no model for architecture %q", m.Architecture)}
	}
	l, err := c.read(from, m, r)
	if err != nil {
		return nil, err
	}
	defer l.close()
	if isLocal(l.baseName) {
		l.baseName = ""
		r.note("the base's name is a path of the machine that the adapter was made on: it is left out")
	}
	if l.isDoRA() {
		if err := c.onlyToGGUF(); err != nil {
			return nil, err
		}
		r.note("a DoRA, in a file of finetune's own: llama.cpp does not load it, finetune merge puts it into the model")
	}
	r.describe(l)
	if err := c.checkHead(l, r); err != nil {
		return nil, err
	}
	if err := writers[c.To](c.Out, m, l, r); err != nil {
		return nil, err
	}
	return r, nil
}

// read reads the adapter, as all of the settings say.
func (c Config) read(from Format, m *baseModel, r *Report) (*lora, error) {
	if from == PEFT {
		return c.readPEFT(m, r)
	}
	return readers[from](c.From, m, r)
}

var readers = map[Format]func(path string, m *baseModel, r *Report) (*lora, error){
	GGUF: readGGUF, MLX: readMLX, PEFT: func(path string, m *baseModel, r *Report) (*lora, error) { return Config{From: path}.readPEFT(m, r) },
}

var writers = map[Format]func(path string, m *baseModel, l *lora, r *Report) error{
	GGUF: writeGGUF, PEFT: writePEFT, MLX: writeMLX,
}

// sorted lists the modules of the adapter in the order of the model.
func (l *lora) sorted(m *baseModel) []module {
	var list []module
	for _, mod := range m.modules {
		if _, ok := l.pairs[mod.name]; ok {
			list = append(list, mod)
		}
	}
	return list
}

// The ways that transformers and mlx-lm name a language model which is a part of a
// larger one, with images say: "model." becomes one of these.
const (
	wrapperNew = "model.language_model." // transformers of today
	wrapperOld = "language_model.model." // transformers of yesterday, mlx-lm
)

// unwrap returns a module's name in the language model, or the encoder, by itself, and how
// it was wrapped, which is "" if it was not.
func (a architecture) unwrap(name string) (string, string) {
	for _, prefix := range a.prefixes {
		if rest, ok := strings.CutPrefix(name, prefix); ok {
			return rest, prefix
		}
	}
	if len(a.prefixes) > 0 {
		return name, ""
	}
	for _, wrapper := range []string{wrapperNew, wrapperOld} {
		if rest, ok := strings.CutPrefix(name, wrapper); ok {
			return "model." + rest, wrapper
		}
	}
	if rest, ok := strings.CutPrefix(name, "language_model."); ok { // the head
		return rest, wrapperOld
	}
	return name, ""
}

// wrap undoes unwrap: it puts a module's name into the wrapped model.
func (a architecture) wrap(name, wrapper string) string {
	if len(a.prefixes) > 0 {
		return wrapper + name
	}
	rest, inside := strings.CutPrefix(name, "model.")
	switch {
	case wrapper == "":
		return name
	case inside:
		return wrapper + rest
	case wrapper == wrapperOld:
		return "language_model." + name
	}
	return name
}
