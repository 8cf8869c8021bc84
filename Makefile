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

.PHONY: build test test-fast test-sanitize lint bench bench-kernels env help

build: ## build bin/finetune (the default)
	go build -o bin/ ./cmd/finetune

test: ## run every test of both modules
	cd $(native) && go test -timeout 30m ./...
	go test -timeout 30m ./...

test-fast: ## run the tests that need no native code, in seconds
	CGO_ENABLED=0 go test $(pure)

test-sanitize: ## run the kernels under AddressSanitizer and UndefinedBehaviorSanitizer
	mkdir -p bin && cd $(native)/ggml && $(CC) -std=gnu11 -O1 -g -fsanitize=address,undefined -fno-sanitize-recover=all -I. \
	  testdata/kernel_check.c gemm*.c kernel_dual.c kernel_mul.c kernel_rows.c kernel_total.c kernel_weight.c cross_entropy.c \
	  -lm -lpthread -o $(CURDIR)/bin/kernel_check && $(CURDIR)/bin/kernel_check

lint: ## gofmt, go vet and staticcheck, over both modules
	@files=$$(gofmt -l .); test -z "$$files" || { echo "gofmt -w would change:" $$files >&2; exit 1; }
	go vet ./...
	cd $(native) && go vet ./...
	go tool staticcheck ./...
	check=$$(go tool -n staticcheck) && cd $(native) && "$$check" ./...

bench: build ## measure training speed and memory: the table of docs/performance.md, some minutes and 5 GB in /tmp
	bin/finetune bench --shape smol135 --type q8_0,q4_0,q4_k_m,f16
	bin/finetune bench --shape qwen05 --type q8_0,q4_0,q4_k_m,f16
	bin/finetune bench --shape tiny1b --type q4_0,q4_k_m --repeat 3

bench-kernels: ## measure the kernels by themselves, as a share of the multiply-add peak
	cd $(native) && go test -run '^$$' -bench . ./ggml

env: ## print the flags for a shell: eval "$(make env)"
	@echo 'export CGO_CFLAGS="$(CGO_CFLAGS)"'
	@echo 'export CGO_CXXFLAGS="$(CGO_CXXFLAGS)"'

help: ## print this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-13s %s\n", $$1, $$2 }' Makefile
