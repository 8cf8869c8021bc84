module outside

go 1.26.0

require finetune v0.0.0

require (
	github.com/go-skynet/go-llama.cpp v0.0.0-20240314183750-6a8041ef6b46 // indirect
	gonum.org/v1/gonum v0.17.0 // indirect
)

// finetune has no home to be fetched from yet, and brings the binding of llama.cpp along.
replace (
	finetune => ../..
	github.com/go-skynet/go-llama.cpp => ../../third_party/go-llama.cpp
)
