package ollama

import "slices"

// ownEngine are the architectures that Ollama runs in its own engine, not in llama.cpp: OllamaEngineRequired in
// fs/ggml/ggml.go of v0.17.4. That engine takes no adapter: it answers "loras are not yet implemented"
// (runner/ollamarunner/runner.go).
var ownEngine = []string{
	"bert",
	"deepseek2",
	"deepseekocr",
	"gemma3",
	"gemma3n",
	"gptoss", "gpt-oss",
	"llama4",
	"mistral3",
	"mllama",
	"nemotron_h", "nemotron_h_moe",
	"nomic-bert",
	"olmo3",
	"qwen25vl",
	"qwen3", "qwen3moe",
	"qwen35", "qwen35moe",
	"qwen3next",
	"qwen3vl", "qwen3vlmoe",
	"glm4moelite",
	"glmocr",
	"lfm2",
	"lfm2moe",
}

// OwnEngine lists them.
func OwnEngine() []string { return slices.Clone(ownEngine) }

// TakesAdapters reports whether Ollama, in versions before 0.34.1, loads a LoRA beside a base of this general.architecture.
func TakesAdapters(architecture string) bool { return !slices.Contains(ownEngine, architecture) }
