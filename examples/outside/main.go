// Outside shows how another module uses the packages of finetune: it prints what Q4_0 would make of the weights of a model
// that an adapter goes on.
//
//	GOFLAGS=-mod=mod go run . ../../demo/base.gguf
//
// go.mod holds what has to be written by hand; with that flag, or by go mod tidy, the go command adds the rest.
package main

import (
	"fmt"
	"log"
	"os"

	"finetune/adapter"
	"finetune/gguf"
	"finetune/quant"
)

func main() {
	log.SetFlags(0)
	if len(os.Args) != 2 {
		log.Fatal("usage: outside MODEL.gguf")
	}
	if err := show(os.Args[1]); err != nil {
		log.Fatal(err)
	}
}

// show prints the relative error of each weight of attention.
func show(path string) error {
	f, err := gguf.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	targets, err := adapter.ParseTargets(adapter.TargetsAttention)
	if err != nil {
		return err
	}
	tensors, err := targets.Select(f.Tensors())
	if err != nil {
		return err
	}
	for _, t := range tensors {
		data, err := f.Data(t.Name)
		if err != nil {
			return err
		}
		weights := make([]float32, t.Elements())
		if err := quant.Decode(t.Type, data, weights); err != nil {
			return err
		}
		a, err := quant.RoundTrip(gguf.TypeQ4_0, weights, int(t.Shape[0]), nil)
		if err != nil {
			return err
		}
		fmt.Printf("%s %s %.4f\n", t.Name, t.Type, a.Relative)
	}
	return nil
}
