# Why a Makefile at all: cgo by itself compiles llama.cpp and ggml without
# optimization and for the oldest x86, some twenty times too slow. The flags are
# set here once and are the same for every target, because go's build cache is
# keyed by them: with other flags the native code is compiled again, for minutes.

# What this processor has: the words of /proc/cpuinfo on Linux, of sysctl on a Mac.
machine := $(shell uname -m)
cpu     := $(shell { grep -m1 '^flags' /proc/cpuinfo || sysctl -n machdep.cpu.features machdep.cpu.leaf7_features; } 2>/dev/null | tr A-Z a-z)
lacks    = $(filter-out $(cpu),$(1))

# On anything but x86-64 (arm64 above all) the compiler's own choice is right.
ifneq ($(filter x86_64 amd64,$(machine)),)
  ifeq ($(call lacks,avx2 fma f16c bmi2 movbe),)
    march := -march=x86-64-v3
  endif
  ifeq ($(call lacks,avx2 fma f16c bmi2 movbe avx512f avx512bw avx512cd avx512dq avx512vl),)
    march := -march=x86-64-v4
  endif
endif

# Flags that are set in the environment win.
export CGO_CFLAGS   ?= $(strip -O3 $(march))
export CGO_CXXFLAGS ?= $(strip -O3 $(march))

native := third_party/go-llama.cpp

# Packages with tests whose every dependency is free of native code.
pure = $(shell go list -test -f '{{.ImportPath}} {{join .Deps " "}}' ./... | awk '/^[^ ]*\.test / && !/go-llama\.cpp/ { sub(/\.test$$/, "", $$1); print $$1 }')

.PHONY: build demo base test test-short test-fast test-apps test-sanitize test-neon lint bench bench-kernels env help

build: ## build bin/finetune (the default)
	go build -o bin/ ./cmd/finetune

demo: build ## show the whole job on a small model and task that come with the program
	bin/finetune demo

test: ## run every test of all modules, and end with what was skipped, and why
	go run ./cmd/runtests -timeout=30m $(native):./... .:./... apps:./...

test-short: ## run the tests but those that take more than some seconds each
	go run ./cmd/runtests -short $(native):./... .:./... apps:./ollama

test-fast: ## run the tests that need no native code, in seconds
	CGO_ENABLED=0 go test $(pure)

# Where the apps are kept between runs: node-llama-cpp from npm (80 MB), and llama-cpp-python built from PyPI's source.
export APPS ?= /tmp/finetune-apps

test-apps: ## install two llama.cpp apps, ten minutes, and let them load exported adapters as make test does where they are
	cd apps && INSTALL_APPS=1 go test -timeout 60m -count 1 -v .

test-sanitize: ## run the kernels under AddressSanitizer, UndefinedBehaviorSanitizer and ThreadSanitizer, as make test does too
	go test -count 1 -v -run '^TestKernelsUnderSanitizers$$' ./kernels

test-neon: ## run the kernels for arm64, on other machines with a cross compiler and an emulator, as make test does too
	go test -count 1 -v -run '^TestKernelsForARM64$$' ./kernels

# The kernels are compiled by what the machine has, gcc on Linux and clang on a Mac, so by both without a warning.
compilers = $(foreach cc,$(CC) gcc-11 clang aarch64-linux-gnu-gcc,$(if $(shell command -v $(cc)),$(cc)))

lint: ## gofmt, go vet and staticcheck, over all modules; warnings of C compilers
	@files=$$(gofmt -l .); test -z "$$files" || { echo "gofmt -w would change:" $$files >&2; exit 1; }
	go vet ./...
	cd $(native) && go vet ./...
	cd apps && go vet ./...
	go tool staticcheck ./...
	check=$$(go tool -n staticcheck) && cd $(native) && "$$check" ./... && cd $(CURDIR)/apps && "$$check" ./...
	cd kernels && for cc in $(compilers); do for f in *.c testdata/*.c; do \
	  $$cc -std=gnu11 -O2 -Wall -Wextra -Wshadow -Werror -I. -c $$f -o /dev/null || exit 1; done; done

bench: build ## measure training speed and memory: the table of docs/performance.md, some minutes and 5 GB in /tmp
	bin/finetune bench --shape smol135 --type q8_0,q4_0,q4_k_m,f16
	bin/finetune bench --shape qwen05 --type q8_0,q4_0,q4_k_m,f16
	bin/finetune bench --shape tiny1b --type q4_0,q4_k_m --repeat 3

bench-kernels: ## measure the kernels by themselves, as a share of the multiply-add peak
	go test -run '^$$' -bench . ./kernels

# The texts that the demo's base model learns (demo/base.md), and where it is made.
DATA ?= ../shared/data
WORK ?= /tmp/finetune-base

base: build ## make the demo's base model again from the texts in DATA, an hour
	go run ./cmd/makebase corpus $(DATA) $(WORK)
	cd $(WORK) && $(CURDIR)/bin/finetune init-model --name finetune-demo-base --layers 5 --embd 256 --heads 4 --heads-kv 2 --ff 768 \
	  --ctx 512 --vocab-size 1536 --type f32 --train-bpe train.jsonl --out untrained.gguf
	cd $(WORK) && $(CURDIR)/bin/finetune train --method full --model untrained.gguf --data train.jsonl --val val.jsonl \
	  --ctx 256 --batch 16 --steps 2200 --lr 2e-3 --weight-decay 0.1 --checkpoint-every 200 --out run
	cd $(WORK) && $(CURDIR)/bin/finetune eval --model run/model.gguf --data val.jsonl --ngram train.jsonl
	go run ./cmd/makebase ship $(WORK)/run/model.gguf demo/base.gguf

env: ## print the flags for a shell: eval "$(make env)"
	@echo 'export CGO_CFLAGS="$(CGO_CFLAGS)"'
	@echo 'export CGO_CXXFLAGS="$(CGO_CXXFLAGS)"'

help: ## print this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-13s %s\n", $$1, $$2 }' Makefile
