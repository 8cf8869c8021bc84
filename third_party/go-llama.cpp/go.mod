module github.com/go-skynet/go-llama.cpp

go 1.26
