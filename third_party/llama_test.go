// Package third_party holds what other projects made, and how it is brought. This tests llama.sh where something is missing or
// wrong: each is one line that says what.
package third_party

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"finetune/internal/need"
)

// script runs llama.sh build with variables set, in an empty cache, and returns its last line.
func script(t *testing.T, variables ...string) string {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "bash", "llama.sh", "build")
	cmd.Env = append(append(os.Environ(), "LLAMA_CACHE="+t.TempDir(), "LLAMA_SRC=", "LLAMA_PREFIX=", "GPU=none", "CC=", "CXX="), variables...)
	var talk bytes.Buffer
	cmd.Stderr = &talk
	err := cmd.Run()
	if exit, ok := err.(*exec.ExitError); !ok || exit.ExitCode() != 1 {
		t.Fatalf("llama.sh: %v, want exit code 1: %s", err, talk.String())
	}
	lines := strings.Split(strings.TrimSpace(talk.String()), "\n")
	for _, line := range lines {
		if !strings.HasPrefix(line, "llama.sh: ") {
			t.Errorf("llama.sh says %q, want its own lines only", line)
		}
	}
	return lines[len(lines)-1]
}

func wants(t *testing.T, line string, parts ...string) {
	t.Helper()
	for _, part := range parts {
		if !strings.Contains(line, part) {
			t.Errorf("llama.sh ends with %q, want %q in it", line, part)
		}
	}
}

// pip skips the test where llama.sh itself would find no pip, cmake or compiler before it came to what is tested.
func pip(t *testing.T) {
	t.Helper()
	for _, name := range []string{"bash", "cmake", "cc", "c++"} {
		if _, err := exec.LookPath(name); err != nil {
			need.Skip(t, need.App, "no "+name)
		}
	}
	if err := exec.CommandContext(t.Context(), "python3", "-m", "pip", "--version").Run(); err != nil {
		need.Skip(t, need.App, "no python3 with pip")
	}
}

// pinned is a name as the package index would give the archive of the pinned release.
func pinned(t *testing.T) string {
	t.Helper()
	text, err := os.ReadFile("llama.sh")
	if err != nil {
		t.Fatal(err)
	}
	_, rest, found := strings.Cut(string(text), "package=llama-cpp-python version=")
	version, _, _ := strings.Cut(rest, "\n")
	if !found {
		t.Fatal("llama.sh pins no version")
	}
	return "llama_cpp_python-" + version + ".tar.gz"
}

func TestAnotherChecksumIsRefused(t *testing.T) {
	pip(t)
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, pinned(t)), []byte("not the archive"), 0o666); err != nil {
		t.Fatal(err)
	}
	line := script(t, "PIP_NO_INDEX=1", "PIP_FIND_LINKS="+dir)
	wants(t, line, "has the SHA-256 ", ", want ", ": not taken")
}

func TestNoNetworkIsOneLine(t *testing.T) {
	pip(t)
	line := script(t, "PIP_NO_INDEX=1", "PIP_FIND_LINKS="+t.TempDir())
	wants(t, line, "pip cannot bring llama-cpp-python", "LLAMA_SRC=dir takes a checkout of llama.cpp instead")
}

func TestWhatIsNoLlamaIsRefused(t *testing.T) {
	pip(t)
	wants(t, script(t, "LLAMA_SRC="+t.TempDir()), "is no checkout of llama.cpp: it has no include/llama.h")
	wants(t, script(t, "LLAMA_PREFIX="+t.TempDir()), "has no lib/libllama")
}

func TestMissingToolsAreNamed(t *testing.T) {
	pip(t)
	tools := fewTools(t)
	wants(t, script(t, "PATH="+tools), "cmake is missing: install cmake")
	if err := os.Symlink("/bin/true", filepath.Join(tools, "cmake")); err != nil {
		t.Fatal(err)
	}
	wants(t, script(t, "PATH="+tools), "python3 with pip is missing: install python3-pip")
}

// fewTools returns a folder with what llama.sh needs besides CMake and pip.
func fewTools(t *testing.T) string {
	t.Helper()
	tools := t.TempDir()
	for _, name := range []string{"bash", "cksum", "cut", "dirname", "env", "grep", "ls", "mkdir", "mktemp", "paste", "readlink", "rm", "sed", "tr", "uname", "cc", "c++", "make"} {
		path, err := exec.LookPath(name)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.Symlink(path, filepath.Join(tools, name)); err != nil {
			t.Fatal(err)
		}
	}
	return tools
}

// What a backend needs is named before anything is downloaded.
func TestMissingToolsOfBackendsAreNamed(t *testing.T) {
	pip(t)
	tools := fewTools(t)
	if err := os.Symlink("/bin/true", filepath.Join(tools, "cmake")); err != nil {
		t.Fatal(err)
	}
	wants(t, script(t, "PATH="+tools, "GPU=vulkan"), "GPU=vulkan needs the compiler of shaders: install glslc")
	wants(t, script(t, "PATH="+tools, "GPU=cuda", "CUDA_PATH="+tools), "GPU=cuda needs nvcc: install the CUDA toolkit")
	wants(t, script(t, "PATH="+tools, "GPU=opencl"), "GPU=opencl, want none, vulkan, cuda or metal")
	if err := os.Symlink("/bin/true", filepath.Join(tools, "glslc")); err != nil {
		t.Fatal(err)
	}
	// A compiler that compiles nothing: there is no Vulkan that it could find.
	if err := os.WriteFile(filepath.Join(tools, "no-cc"), []byte("#!/bin/sh\nexit 1\n"), 0o777); err != nil {
		t.Fatal(err)
	}
	wants(t, script(t, "PATH="+tools, "GPU=vulkan", "CC=no-cc"), "GPU=vulkan needs Vulkan's loader: install libvulkan-dev")
}

// Another archive of the headers than the pinned one is not opened.
func TestAnotherDebianPackageIsRefused(t *testing.T) {
	for _, name := range []string{"bash", "dpkg", "apt-get"} {
		if _, err := exec.LookPath(name); err != nil {
			need.Skip(t, need.App, "no "+name)
		}
	}
	tools := t.TempDir()
	// apt-get as it answers with another package.
	if err := os.WriteFile(filepath.Join(tools, "apt-get"), []byte(`#!/bin/sh
case "$*" in
*indextargets*) echo http://127.0.0.1:9/debian/ ;;
*download*) echo other >libvulkan-dev_1_amd64.deb ;;
esac
`), 0o777); err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), "bash", "-c", `set -eu; options=(); have() { command -v "$1" >/dev/null; }; say() { :; }; die() { echo "$*"; exit 1; }
		. ./gpu.sh; unpack_debian "$1" libvulkan-dev || echo "$problem"`, "-", t.TempDir())
	cmd.Env = append(os.Environ(), "PATH="+tools+":"+os.Getenv("PATH"), "GPU=none")
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	wants(t, string(out), "libvulkan-dev 1.4.309.0-1 has the SHA-256 ", ", want ", ": not taken")
}
