package convert_test

import (
	"fmt"
	"log"
	"os"
	"path/filepath"
	"slices"

	"finetune/adapter"
	"finetune/convert"
	"finetune/model"
	"finetune/newmodel"
)

// Turn a GGUF LoRA into the folder that PEFT loads, and back.
func Example() {
	dir, err := os.MkdirTemp("", "convert")
	if err != nil {
		log.Fatal(err)
	}
	defer os.RemoveAll(dir)
	base, lora := makeBase(dir), filepath.Join(dir, "adapter.gguf")
	makeLoRA(base, lora)

	there, err := convert.Run(convert.Config{From: lora, To: convert.PEFT, Model: base, Out: filepath.Join(dir, "peft")})
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(there.Architecture, there.Modules, "modules of rank", there.RankMax, "scale", there.ScaleMax)
	names, err := os.ReadDir(there.File)
	if err != nil {
		log.Fatal(err)
	}
	for _, f := range names {
		fmt.Println(f.Name())
	}

	back := filepath.Join(dir, "back.gguf")
	_, err = convert.Run(convert.Config{From: there.File, To: convert.GGUF, Model: base, Out: back})
	if err != nil {
		log.Fatal(err)
	}
	a, err := adapter.Load(lora)
	if err != nil {
		log.Fatal(err)
	}
	b, err := adapter.Load(back)
	if err != nil {
		log.Fatal(err)
	}
	same := true
	for i, w := range a.Weights {
		x, y := w.Factors.(*adapter.LoRA), b.Weights[i].Factors.(*adapter.LoRA)
		same = same && slices.Equal(x.A.Data, y.A.Data) && slices.Equal(x.B.Data, y.B.Data)
	}
	fmt.Println("back with the same factors:", same)
	// Output:
	// llama 4 modules of rank 2 scale 2
	// adapter_config.json
	// adapter_model.safetensors
	// back with the same factors: true
}

// makeBase writes an untrained llama of one block and returns its path.
func makeBase(dir string) string {
	bpe, err := newmodel.TrainBPE(slices.Values([]string{"to be or not to be"}), newmodel.LeastTokens)
	if err != nil {
		log.Fatal(err)
	}
	spec := newmodel.DefaultSpec()
	spec.Layers, spec.Embd, spec.Heads, spec.Vocabulary = 1, 32, 4, bpe.Vocabulary()
	m, err := newmodel.New(spec)
	if err != nil {
		log.Fatal(err)
	}
	path := filepath.Join(dir, "base.gguf")
	if err := m.WriteFile(path); err != nil {
		log.Fatal(err)
	}
	return path
}

// makeLoRA writes a fresh LoRA of rank 2 for the attention of a base.
func makeLoRA(base, path string) {
	f, err := model.Open(base)
	if err != nil {
		log.Fatal(err)
	}
	defer f.Close()
	targets, err := adapter.ParseTargets("attention")
	if err != nil {
		log.Fatal(err)
	}
	tensors, err := targets.Select(f.Tensors())
	if err != nil {
		log.Fatal(err)
	}
	a, err := adapter.Build(adapter.MethodLoRA, 2, 4, tensors)
	if err != nil {
		log.Fatal(err)
	}
	a.Architecture = f.Architecture()
	a.Init(1)
	if err := a.Save(path); err != nil {
		log.Fatal(err)
	}
}
