# Why a Makefile at all: llama.cpp is brought and built once, for this machine, and Go finds it by pkg-config
# (third_party/llama.sh).
machine := $(shell uname -m)
native  := third_party/go-llama.cpp
# What is set on the command line does not reach $(shell) by itself. GPU is vulkan, cuda, metal or none: docs/gpu.md.
chosen  := $(foreach v,CC CXX SANITIZE GPU CUDA_ARCHITECTURES LLAMA_SRC LLAMA_PREFIX,$(if $(filter-out undefined default,$(origin $v)),$v='$($v)'))
bring   := env $(chosen) third_party/llama.sh
where   := $(shell $(bring) where)

export PKG_CONFIG_PATH := $(where)/lib/pkgconfig$(if $(PKG_CONFIG_PATH),:$(PKG_CONFIG_PATH))
# What pkg-config says is no part of what Go knows its cache by, and flags are: packages are not taken that are linked to another llama.cpp.
export CGO_CPPFLAGS := $(strip $(filter-out -DFINETUNE_LLAMA=%,$(CGO_CPPFLAGS)) -DFINETUNE_LLAMA=$(notdir $(where)))
ifeq ($(shell command -v pkg-config),)
  export PKG_CONFIG := $(where)/bin/pkg-config
endif

# Packages with tests whose every dependency is free of native code.
pure = $(shell go list -test -f '{{.ImportPath}} {{join .Deps " "}}' ./... | awk '/^[^ ]*\.test / && !/go-llama\.cpp/ { sub(/\.test$$/, "", $$1); print $$1 }')

.PHONY: build llama demo base test test-short test-fast test-chat test-apps test-real test-large test-gpu test-kill test-hostile test-asan test-sanitize test-race test-neon lint bench bench-kernels docs man env help

build: llama ## build bin/finetune (the default)
	go build -o bin/ ./cmd/finetune

llama: ## bring llama.cpp and build it for this machine, unless that was done: some minutes, once
	@$(bring) build

demo: build ## show the whole job on a small model and task that come with the program
	bin/finetune demo

test: llama ## run every test of all modules, and end with what was skipped, and why
	go run ./cmd/runtests -timeout=30m $(native):./... .:./... apps:./...

test-short: llama ## run the tests but those that take more than some seconds each
	go run ./cmd/runtests -short $(native):./... .:./... apps:./ollama

test-fast: ## run the tests that need no native code, in seconds
	CGO_ENABLED=0 go test $(pure)

test-chat: llama ## build llama.cpp's chat code once, some minutes, and compare ours with it, as make test does too where it is
	@$(bring) chat
	go test -count 1 -v -run LlamaServer ./chat ./chat/jinja

# Where the apps are kept between runs: node-llama-cpp from npm (80 MB), and llama-cpp-python built from PyPI's source. Without it
# that is finetune/apps in the user's cache.
export APPS

test-apps: llama ## install two llama.cpp apps, ten minutes, and let them load exported adapters as make test does where they are
	cd apps && INSTALL_APPS=1 go test -timeout 60m -count 1 -v .

test-real: llama ## train SmolLM2-135M and Gemma 3 270M a little and hold what two apps make of it against ours, by hand, some minutes
	cd apps && REAL_MODELS=1 INSTALL_APPS=1 go test -timeout 60m -count 1 -v -run '^TestRealModels$$' .

# Packages with tests that take a device, by their names. FINETUNE_TEST_DEVICE names it; the first GPU that there is if it does not. A GPU that is
# made of software, such as Mesa's llvmpipe, has to be asked for: GGML_VK_VISIBLE_DEVICES=0 FINETUNE_TEST_DEVICE=vulkan.
devices := ./device ./eval ./export ./trainer ./trainer/graph ./cmd/finetune

test-gpu: llama ## run the tests that take a device: make GPU=vulkan test-gpu, FINETUNE_TEST_DEVICE=NAME for another than the first GPU, SHORT=-short for one model
	go run ./cmd/runtests -timeout=2h -count=1 $(SHORT) -run=Device $(native):./ggml $(addprefix .:,$(devices))

test-kill: llama ## kill commands 200 times at random moments, and let the system fail them; SEED=N and KILLS=N choose others, minutes
	KILLS=$(or $(KILLS),200) SEED=$(or $(SEED),1) go test -timeout 120m -count 1 -v -run '$(killtests)' ./cmd/finetune

killtests := ^Test(Kills|RunIsStoppedInGoodOrder|NohupIsRespected|WaitingChatIsStopped|SilentStandardInputIsStopped|OutputThatCannotBeWritten|FilesThatMayNotBeLarge|FullDisk|ReadOnlyFolder|FewDescriptors|SmallControlGroup|CallsOfTheSystem)$$

# How many bytes of records test-large trains on, and of text a quarter; the disk needs some four times that in TMPDIR.
LARGE_DATA ?= 2000000000

test-large: llama ## train some steps on 2 GB of records and 500 MB of text in less than 300 MiB of memory, by night, half an hour
	LARGE_DATA=$(LARGE_DATA) go test -timeout 12h -count 1 -v -run '^TestLargeData$$' ./trainer

test-sanitize: llama ## run the kernels under AddressSanitizer, UndefinedBehaviorSanitizer and ThreadSanitizer, as make test does too
	go test -count 1 -v -run '^TestKernelsUnderSanitizers$$' ./kernels

# The threads of C are not seen by it: those of the kernels are test-sanitize's. Short, because it makes Go ten times as slow.
test-race: llama ## run the tests of all modules under Go's race detector, without those that take long, an hour
	go run ./cmd/runtests -race -short -timeout=60m $(native):./... .:./... apps:./ollama

test-neon: llama ## run the kernels for arm64, on other machines with a cross compiler and an emulator, as make test does too
	go test -count 1 -v -run '^TestKernelsForARM64$$' ./kernels

# Everything follows from SEED and a number. RUNS is of the program; five times as many models are loaded in one process, and
# with SWEEP=1 every number of every header is tried. KEEP=dir keeps the files of what fails.
SEED ?= 1
RUNS ?= 600
SWEEP ?=
KEEP ?=

test-hostile: llama ## damage files of every kind and let every command read them, some minutes; longer with RUNS=10000, others with SEED=2
	go test -count 1 -timeout 12h -v ./internal/hostile -args -seed $(SEED) -runs $(RUNS) -batch $$(($(RUNS) * 5)) \
	  $(if $(SWEEP),-sweep) $(if $(SANITIZE),-sanitized) -keep "$(abspath $(KEEP))"

# Of a finding the supervisor makes a crash, not an exit with the code of an error; allocations of any size fail as they do
# without a sanitizer; what a program does not free before it ends is no finding.
asan = abort_on_error=1:allocator_may_return_null=1:detect_leaks=0

test-asan: ## build llama.cpp with AddressSanitizer, once, some minutes, and run test-hostile with it in all code, twice as long
	ASAN_OPTIONS=$(asan) GOFLAGS='$(GOFLAGS) -asan' $(MAKE) SANITIZE=address test-hostile

# The kernels are compiled by what the machine has, gcc on Linux and clang on a Mac, so by both without a warning.
headers   = $$($${PKG_CONFIG:-pkg-config} --cflags llama | sed 's/-I/-isystem /g')
compilers = $(foreach cc,$(CC) gcc-11 clang aarch64-linux-gnu-gcc,$(if $(shell command -v $(cc)),$(cc)))

lint: llama ## gofmt, go vet and staticcheck, over all modules; warnings of C compilers
	@files=$$(gofmt -l .); test -z "$$files" || { echo "gofmt -w would change:" $$files >&2; exit 1; }
	go vet ./...
	cd $(native) && go vet ./...
	cd apps && go vet ./...
	go tool staticcheck ./...
	check=$$(go tool -n staticcheck) && cd $(native) && "$$check" ./... && cd $(CURDIR)/apps && "$$check" ./...
	cd kernels && for cc in $(compilers); do for f in *.c testdata/*.c; do \
	  $$cc -std=gnu11 -O2 -Wall -Wextra -Wshadow -Werror -I. $(headers) -c $$f -o /dev/null || exit 1; done; done

bench: build ## measure training speed and memory: the table of docs/performance.md, some minutes and 5 GB in /tmp
	bin/finetune bench --shape smol135 --type q8_0,q4_0,q4_k_m,f16
	bin/finetune bench --shape qwen05 --type q8_0,q4_0,q4_k_m,f16
	bin/finetune bench --shape tiny1b --type q4_0,q4_k_m --repeat 3

bench-kernels: llama ## measure the kernels by themselves, as a share of the multiply-add peak
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

docs: llama ## write docs/cli, the reference of the commands, anew
	go test -count 1 -run '^TestDocsAreUpToDate$$' ./cmd/finetune -update

# Where the manual pages go: man -M man finetune-train reads them there.
MAN ?= man/man1

man: llama ## write manual pages to MAN
	mkdir -p $(MAN)
	go test -count 1 -run '^TestManPages$$' ./cmd/finetune -man $(abspath $(MAN))

env: llama ## print what a shell needs for go commands of its own: eval "$(make -s env)"
	@$(bring) env

help: ## print this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-13s %s\n", $$1, $$2 }' Makefile
