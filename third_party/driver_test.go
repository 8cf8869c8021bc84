package third_party

import (
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"testing"

	"finetune/internal/need"
)

// A llama.cpp with CUDA wants the driver's library to start. Where there is none, on a machine that only builds, the toolkit's stub
// stands in for it while the release is asked for.
func TestBuildWithCUDANeedsNoDriver(t *testing.T) {
	pip(t)
	if runtime.GOOS != "linux" {
		need.Skip(t, need.System, "CUDA is for Linux here")
	}
	prefix, toolkit := t.TempDir(), t.TempDir()
	for name, text := range map[string]string{
		"include/llama.h":    "const char *llama_version(void);",
		"include/ggml-cpu.h": "typedef void *ggml_backend_t; ggml_backend_t ggml_backend_cpu_init(void); const char *ggml_version(void), *ggml_commit(void);",
		"llama.c": "int ggml_cuda(void); const char *llama_version(void) { return ggml_cuda() ? \"\" : \"1.2.3\"; }\n" +
			"const char *ggml_version(void) { return \"1\"; } const char *ggml_commit(void) { return \"c\"; } void *ggml_backend_cpu_init(void) { return \"\"; }",
		"cuda.c": "int cuNeverAsked(void); int ggml_cuda(void) { return 0 * cuNeverAsked(); }",
		"none.c": "int none;",
		"stub.c": "int cuNeverAsked(void) { return 0; }",
	} {
		put(t, filepath.Join(prefix, name), text)
	}
	put(t, filepath.Join(toolkit, "bin/nvcc"), "#!/bin/sh\n")
	sh := func(command string) {
		t.Helper()
		cmd := exec.CommandContext(t.Context(), "sh", "-ec", command)
		cmd.Dir = prefix
		cmd.Env = append(os.Environ(), "TOOLKIT="+toolkit)
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("%v: %s", err, out)
		}
	}
	sh(`mkdir lib; for f in llama cuda none; do cc -c $f.c -o $f.o; done
		ar rcs lib/libllama.a llama.o; ar rcs lib/libggml-cuda.a cuda.o
		for l in ggml ggml-cpu ggml-base; do ar rcs lib/lib$l.a none.o; done
		mkdir -p $TOOLKIT/lib64/stubs; for l in cudart cublas; do cc -shared -fPIC none.c -o $TOOLKIT/lib64/lib$l.so; done
		cc -shared -fPIC -Wl,-soname,libcuda.so.1 stub.c -o $TOOLKIT/lib64/stubs/libcuda.so`)
	cmd := exec.CommandContext(t.Context(), "bash", "llama.sh", "build")
	cmd.Env = append(os.Environ(), "LLAMA_CACHE="+t.TempDir(), "LLAMA_SRC=", "LLAMA_PREFIX="+prefix, "GPU=none", "CC=", "CXX=", "CUDA_PATH="+toolkit)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("llama.sh: %v, want that it takes what is there: %s", err, out)
	}
}

func put(t *testing.T, path, text string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o777); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o777); err != nil {
		t.Fatal(err)
	}
}
