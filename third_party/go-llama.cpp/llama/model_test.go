package llama_test

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/go-skynet/go-llama.cpp/internal/llamatest"
	"github.com/go-skynet/go-llama.cpp/llama"
)

func TestModelDescribesItself(t *testing.T) {
	m := small(t)
	got := [...]int{m.NCtxTrain(), m.NEmbd(), m.NLayer(), m.NHead(), m.NHeadKV(), m.NSWA()}
	if want := [...]int{512, 256, 5, 4, 2, 0}; got != want {
		t.Errorf("n_ctx_train, n_embd, n_layer, n_head, n_head_kv, n_swa = %v, want %v", got, want)
	}
	if m.Arch() != "llama" || m.NParams() != 4328192 || m.Bytes() != 4606976 {
		t.Errorf("Arch %q, NParams %d, Bytes %d", m.Arch(), m.NParams(), m.Bytes())
	}
	if m.HasEncoder() || !m.HasDecoder() || m.IsRecurrent() || m.IsHybrid() || m.IsDiffusion() {
		t.Error("the model is not a plain decoder")
	}
	if v, ok := m.Meta("llama.block_count"); v != "5" || !ok {
		t.Errorf(`Meta("llama.block_count") = %q, %v, want "5"`, v, ok)
	}
	if _, ok := m.Meta("no.such.key"); ok {
		t.Error(`Meta("no.such.key") found something`)
	}
	if all := m.MetaAll(); all["general.architecture"] != "llama" || all["llama.block_count"] != "5" {
		t.Errorf("MetaAll = %v", all)
	}
	if m.Desc() == "" || m.Path() == "" {
		t.Errorf("Desc %q, Path %q", m.Desc(), m.Path())
	}
}

func TestWrongFilesAreErrors(t *testing.T) {
	whole, err := os.ReadFile(llamatest.Model(t))
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	write := func(name string, b []byte) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, b, 0o666); err != nil {
			t.Fatal(err)
		}
		return path
	}
	other := slices.Clone(whole)
	at := strings.Index(string(other), "general.architecture") + len("general.architecture") + 4 + 8
	copy(other[at:], "lxxxa")
	for _, tt := range []struct{ name, path, want string }{
		{"empty", write("empty.gguf", nil), "not a GGUF file: too short"},
		{"a text", llamatest.Text(t), "not a GGUF file: it starts with"},
		{"a folder", dir, "it is a folder"},
		{"unknown version", write("version.gguf", append([]byte("GGUF\x63\x00\x00\x00"), whole[8:]...)), "version"},
		{"unknown architecture", write("arch.gguf", other), "unknown model architecture: 'lxxxa'"},
		{"a token twice", write("twice.gguf", []byte(strings.Replace(string(whole), "Ā", "ā", 1))), "GGML_ASSERT"},
		{"tokenizer only", llamatest.Vocabulary(t), "vocabulary only, no weights"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			checkLoadError(t, tt.path, tt.want)
		})
	}
	for _, n := range []int{3, 4, 8, 23, 24, 100, 1000, 8000, len(whole) / 2, len(whole) - 1} {
		t.Run(fmt.Sprintf("first %d bytes", n), func(t *testing.T) {
			checkLoadError(t, write("cut.gguf", whole[:n]), "cut.gguf")
		})
	}
	t.Run("missing", func(t *testing.T) {
		if _, err := llama.LoadModel("no/such/file", llama.ModelParams{}); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("LoadModel = %v, want fs.ErrNotExist", err)
		}
	})
}

// checkLoadError wants one line that names the file.
func checkLoadError(t *testing.T, path, want string) {
	t.Helper()
	m, err := llama.LoadModel(path, llama.ModelParams{})
	if err == nil {
		m.Close()
		t.Fatalf("LoadModel = nil, want an error with %q", want)
	}
	var e *llama.Error
	if !errors.As(err, &e) || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), path) || strings.Contains(err.Error(), "\n") {
		t.Errorf("LoadModel = %v, want one line with %q and the path", err, want)
	}
}

func TestVocabOnlyModelHasNoContext(t *testing.T) {
	m := vocabOnly(t, llamatest.Vocabulary(t))
	for _, p := range []llama.ContextParams{{}, {NCtx: 256}, {Trace: true}} {
		c, err := llama.NewContext(m, p)
		if err == nil {
			c.Close()
		}
		if err == nil || !strings.Contains(err.Error(), "vocabulary only") {
			t.Errorf("NewContext(%+v) = %v, want it refused", p, err)
		}
	}
	if _, err := llama.LoadAdapter(m, llamatest.WriteAdapter(t, llamatest.AdapterSpec{})); err == nil {
		t.Error("LoadAdapter = nil, want an error")
	}
	if m.NHead() != 0 || m.NHeadKV() != 0 || m.NLayer() != 0 {
		t.Errorf("NHead %d, NHeadKV %d, NLayer %d, want 0", m.NHead(), m.NHeadKV(), m.NLayer())
	}
}

func TestProgressIsToldAndCanStop(t *testing.T) {
	var last float32
	m, err := llama.LoadModel(llamatest.Model(t), llama.ModelParams{NoMmap: true, Progress: func(done float32) bool {
		last = done
		return true
	}})
	if err != nil || last != 1 {
		t.Fatalf("LoadModel = %v, progress ended at %v, want 1", err, last)
	}
	closeOrFail(t, m)
	_, err = llama.LoadModel(llamatest.Model(t), llama.ModelParams{Progress: func(float32) bool { return false }})
	if err == nil || !strings.Contains(err.Error(), "stopped by the progress callback") {
		t.Errorf("LoadModel stopped = %v", err)
	}
}

func TestForgottenCloseIsReportedWithItsOpener(t *testing.T) {
	path := llamatest.Model(t)
	var line int
	func() {
		_, _, l, _ := runtime.Caller(0)
		line = l + 2
		m, err := llama.LoadModel(path, llama.ModelParams{VocabOnly: true})
		if err != nil {
			t.Fatal(err)
		}
		runtime.KeepAlive(m)
	}()
	leaks := llamatest.Leaks()
	if want := fmt.Sprintf("model_test.go:%d was never closed", line); len(leaks) != 1 || !strings.Contains(leaks[0], want) {
		t.Errorf("leaks = %q, want one with %q", leaks, want)
	}
}

func TestLogIsQuietUntilAskedFor(t *testing.T) {
	var lines []string
	llama.SetLog(func(level llama.LogLevel, text string) { lines = append(lines, text) })
	m := small(t)
	llama.SetLog(nil)
	if !slices.ContainsFunc(lines, func(s string) bool { return strings.Contains(s, "llama_model_loader") }) {
		t.Errorf("%d log lines, want llama_model_loader's among them", len(lines))
	}
	n := len(lines)
	newContext(t, m, llama.ContextParams{})
	if len(lines) != n {
		t.Errorf("the removed hook heard %q", lines[n:])
	}
}

func TestCheckAcceptsTheLinkedLibrary(t *testing.T) {
	if err := llama.Check(); err != nil {
		t.Error(err)
	}
}

func TestFastBuildGivesAHintWhenSlow(t *testing.T) {
	if ok, hint := llama.FastBuild(); ok != (hint == "") || !ok && !strings.Contains(hint, "-march=x86-64-v") {
		t.Errorf("FastBuild = %v, %q", ok, hint)
	}
	if !strings.Contains(llama.BuildInfo(), "CPU") {
		t.Errorf("BuildInfo = %q, want it to name the CPU backend", llama.BuildInfo())
	}
}
