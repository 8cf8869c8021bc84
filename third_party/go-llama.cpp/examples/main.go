// Command examples talks to a GGUF model, with a LoRA adapter if one is given: it reads prompts from standard input, one a
// paragraph, and prints their continuation and the length of their embedding. It is written against go-llama.cpp's interface
// alone.
//
//	go run ./examples -m model.gguf -lora adapter.gguf -t 4 -n 128
package main

import (
	"bufio"
	"flag"
	"fmt"
	"io"
	"os"
	"runtime"
	"strings"

	llama "github.com/go-skynet/go-llama.cpp"
)

func main() {
	model := flag.String("m", "model.gguf", "path of the GGUF model")
	lora := flag.String("lora", "", "path of a GGUF LoRA adapter")
	threads := flag.Int("t", runtime.NumCPU(), "threads")
	tokens := flag.Int("n", 128, "tokens to predict")
	gpuLayers := flag.Int("ngl", 0, "layers to keep on the GPU")
	seed := flag.Int("s", -1, "seed, -1 for a new one each time")
	temp := flag.Float64("temp", 0.8, "temperature, 0 for the most likely token")
	flag.Parse()

	l, err := llama.New(*model, llama.EnableF16Memory, llama.SetContext(128), llama.EnableEmbeddings,
		llama.SetGPULayers(*gpuLayers), llama.SetLoraAdapter(*lora))
	if err != nil {
		fmt.Fprintln(os.Stderr, "loading the model failed:", err)
		os.Exit(1)
	}
	defer l.Free()

	in := bufio.NewReader(os.Stdin)
	for {
		text, err := paragraph(in)
		if text != "" {
			if err := answer(l, text, llama.SetTokens(*tokens), llama.SetThreads(*threads), llama.SetSeed(*seed),
				llama.SetTemperature(float32(*temp))); err != nil {
				fmt.Fprintln(os.Stderr, err)
				os.Exit(1)
			}
		}
		if err == io.EOF {
			return
		}
	}
}

// answer prints the continuation of text as it comes.
func answer(l *llama.LLama, text string, opts ...llama.PredictOption) error {
	opts = append(opts, llama.Debug, llama.SetTopK(90), llama.SetTopP(0.86), llama.SetStopWords("llama"),
		llama.SetTokenCallback(func(token string) bool {
			fmt.Print(token)
			return true
		}))
	if _, err := l.Predict(text, opts...); err != nil {
		return err
	}
	embedding, err := l.Embeddings(text)
	if err != nil {
		return err
	}
	fmt.Printf("\n(embedding of %d numbers)\n\n", len(embedding))
	return nil
}

// paragraph reads up to an empty line.
func paragraph(in *bufio.Reader) (string, error) {
	var lines []string
	for {
		line, err := in.ReadString('\n')
		line = strings.TrimRight(line, "\r\n")
		if line != "" {
			lines = append(lines, line)
		}
		if line == "" || err != nil {
			return strings.Join(lines, "\n"), err
		}
	}
}
