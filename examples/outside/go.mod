module outside

go 1.26.0

require finetune v0.0.0

// finetune has no home to be fetched from yet, and brings the binding of llama.cpp along.
replace (
	finetune => ../..
	github.com/go-skynet/go-llama.cpp => ../../third_party/go-llama.cpp
)
