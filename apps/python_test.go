package apps

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"finetune/internal/need"
)

// cmakeArgs leave out of llama-cpp-python's build what a completion on a CPU does not need.
const cmakeArgs = "-DLLAMA_BUILD_TOOLS=OFF -DLLAMA_BUILD_EXAMPLES=OFF -DLLAMA_BUILD_TESTS=OFF -DLLAMA_BUILD_SERVER=OFF " +
	"-DLLAVA_BUILD=OFF -DLLAMA_CURL=OFF -DLLAMA_OPENSSL=OFF -DGGML_OPENMP=OFF"

// python answers with llama-cpp-python.
func python(t *testing.T, r request) reply {
	interpreter, dir := pythonApp(t)
	put(t, "python/complete.py", dir)
	script := exec.CommandContext(t.Context(), interpreter, "complete.py")
	script.Dir = dir
	return ask(t, script, r)
}

// pythonApp returns an interpreter with llama-cpp-python, built from its source package, and its folder.
func pythonApp(t *testing.T) (interpreter, dir string) {
	programs(t, "python3", "cmake", "c++")
	dir = folder(t, "python", "llama-cpp-python")
	told := put(t, "python/requirements.txt", dir)
	interpreter = filepath.Join(dir, "venv", "bin", "python")
	if _, err := os.Stat(interpreter); err != nil {
		if out, err := exec.CommandContext(t.Context(), "python3", "-m", "venv", filepath.Join(dir, "venv")).CombinedOutput(); err != nil {
			os.RemoveAll(filepath.Join(dir, "venv"))
			need.Skip(t, need.App, "no virtual environment of python3: "+lastLines(out))
		}
	}
	pip := exec.CommandContext(t.Context(), interpreter, "-m", "pip", "install", "-r", "requirements.txt")
	pip.Env = append(os.Environ(), "CMAKE_ARGS="+cmakeArgs)
	install(t, "llama-cpp-python", dir, told, pip)
	return interpreter, dir
}
