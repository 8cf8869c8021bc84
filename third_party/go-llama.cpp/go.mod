module github.com/go-skynet/go-llama.cpp

go 1.26

require github.com/ollama/ollama v0.17.4
