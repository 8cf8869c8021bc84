package llama

// #cgo CXXFLAGS: -std=c++17
// #cgo linux LDFLAGS: -lm
import "C"

import (
	// llama.cpp and, through it, ggml, compiled by cgo inside go build.
	_ "github.com/ollama/ollama/llama/llama.cpp/src"
)
