package models

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"finetune/internal/hint"
)

func TestParseHub(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct{ in, want, revision string }{
		{"hf.co/owner/repo", "hf.co/owner/repo", ""},
		{"hf.co/owner/repo:q4_k_m", "hf.co/owner/repo:q4_k_m", ""},
		{"huggingface.co/owner/repo/sub/file.gguf", "hf.co/owner/repo/sub/file.gguf", ""},
		{"https://huggingface.co/owner/repo/blob/main/file.gguf", "hf.co/owner/repo/file.gguf", ""},
		{"https://huggingface.co/owner/repo/resolve/v1/sub/file.gguf?download=true", "hf.co/owner/repo/sub/file.gguf", "v1"},
		{"hf.co/owner", "", ""},
		{"hf.co/owner/", "", ""},
		{"hf.co/../repo", "", ""},
		{"hf.co/owner/..", "", ""},
		{"hf.co/owner/repo:", "", ""},
		{"hf.co/owner/repo:../x", "", ""},
		{"hf.co/owner/repo/../../x.gguf", "", ""},
		{"hf.co/owner/repo//x.gguf", "", ""},
		{"hf.co/owner/repo/.x.gguf", "", ""},
		{"hf.co/owner/repo/x.bin", "", ""},
		{"hf.co/owner/repo/a\\b.gguf", "", ""},
		{"hf.co/owner/repo/a\x1b.gguf", "", ""},
		{"hf.co/owner/repo/resolve/../x.gguf", "", ""},
	} {
		r, err := parseHub(tt.in)
		if (err == nil) != (tt.want != "") || err == nil && (r.String() != tt.want || r.revision != tt.revision) {
			t.Errorf("parseHub(%q) = %q at %q, %v; want %q at %q", tt.in, r, r.revision, err, tt.want, tt.revision)
		}
	}
}

func TestParseOllama(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct{ in, want string }{
		{"gemma3:270m", "registry.ollama.ai/library/gemma3/270m"},
		{"gemma3", "registry.ollama.ai/library/gemma3/latest"},
		{"me/mine:q8", "registry.ollama.ai/me/mine/q8"},
		{"hf.co/owner/repo:Q4_K_M", "hf.co/owner/repo/Q4_K_M"},
		{"localhost:5000/a/b:c", "localhost:5000/a/b/c"},
		{"", ""}, {"a:", ""}, {"../x", ""}, {"a/b/c/d", ""}, {"a:..", ""}, {"a:b:c", ""}, {"/a", ""},
	} {
		n, err := parseOllama(tt.in)
		if got := strings.Join(n.parts(), "/"); (err == nil) != (tt.want != "") || err == nil && got != tt.want {
			t.Errorf("parseOllama(%q) = %q, %v; want %q", tt.in, got, err, tt.want)
		}
	}
}

func TestChoose(t *testing.T) {
	t.Parallel()
	files := []string{"m-Q4_K_M.gguf", "m-Q8_0.gguf", "m-IQ4_XS.gguf", "m-UD-Q4_K_XL.gguf", "mmproj-m-f16.gguf", "imatrix.gguf", "README.md",
		"f16/m_f16-00001-of-00002.gguf", "f16/m_f16-00002-of-00002.gguf", "BF16/m-BF16-00001-of-00003.gguf", "BF16/m-BF16-00003-of-00003.gguf"}
	for _, tt := range []struct {
		name  string
		files []string
		want  string // the first part; empty = an error
		parts int
	}{
		{"hf.co/o/r", files, "m-Q4_K_M.gguf", 1},
		{"hf.co/o/r:Q4_K_M", files, "m-Q4_K_M.gguf", 1},
		{"hf.co/o/r:q8_0", files, "m-Q8_0.gguf", 1},
		{"hf.co/o/r:UD-Q4_K_XL", files, "m-UD-Q4_K_XL.gguf", 1},
		{"hf.co/o/r:f16", files, "f16/m_f16-00001-of-00002.gguf", 2},
		{"hf.co/o/r:BF16", files, "", 0}, // a part is missing
		{"hf.co/o/r:Q5_K_M", files, "", 0},
		{"hf.co/o/r:Q4", files, "", 0},
		{"hf.co/o/r/m-Q8_0.gguf", files, "m-Q8_0.gguf", 1},
		{"hf.co/o/r/f16/m_f16-00002-of-00002.gguf", files, "", 0}, // not the first part
		{"hf.co/o/r", []string{"only-Q8_0.gguf"}, "only-Q8_0.gguf", 1},
		{"hf.co/o/r", []string{"a-Q8_0.gguf", "b-Q8_0.gguf"}, "", 0},
		{"hf.co/o/r", []string{"README.md"}, "", 0},
		{"hf.co/o/r", []string{"x-00001-of-99999.gguf", "x-00000-of-00000.gguf"}, "", 0},
	} {
		r, err := parseHub(tt.name)
		if err != nil {
			t.Fatal(err)
		}
		v, err := choose(r, tt.files)
		if (err == nil) != (tt.want != "") || err == nil && (v.name() != tt.want || len(v.parts) != tt.parts) {
			t.Errorf("choose(%q) = %q, %v; want %q in %d parts", tt.name, v.parts, err, tt.want, tt.parts)
		}
	}
}

// What was brought once needs no network again, by any of its names.
func TestFromTheCache(t *testing.T) {
	t.Parallel()
	files := map[string][]byte{"only-Q8_0-00001-of-00002.gguf": someBytes(100, 20), "only-Q8_0-00002-of-00002.gguf": someBytes(50, 21)}
	f := newFakeHub(t, files)
	s := f.store()
	found, err := s.Resolve(t.Context(), "hf.co/owner/repo", nil)
	if err != nil {
		t.Fatal(err)
	}
	for name, content := range files {
		sameFile(t, filepath.Join(filepath.Dir(found.Path), name), content)
	}
	if f.listings != 2 || len(f.requests) != 2 {
		t.Errorf("%d pages of the listing and %d requests of bytes, want 2 and 2", f.listings, len(f.requests))
	}
	f.front.Close()
	for _, name := range []string{"hf.co/owner/repo", "hf.co/owner/repo:q8_0", "hf.co/owner/repo/only-Q8_0-00001-of-00002.gguf", "https://huggingface.co/owner/repo"} {
		again, err := s.Resolve(t.Context(), name, nil)
		if err != nil || again.Path != found.Path || again.Name != name {
			t.Errorf("Resolve(%q) = %q, %v; want %q", name, again.Path, err, found.Path)
		}
	}
	if _, err := s.Resolve(t.Context(), "hf.co/owner/repo:Q4_0", nil); err == nil || !strings.Contains(fmt.Sprint(hint.Of(err)), "in the caches there is hf.co/owner/repo/only") {
		t.Errorf("%v, hints %q; want what is in the caches", err, hint.Of(err))
	}
}

// A listing cannot have anything written elsewhere.
func TestHostileListing(t *testing.T) {
	t.Parallel()
	f := newFakeHub(t, map[string][]byte{"../../evil-Q4_K_M.gguf": []byte("x"), "/tmp/evil-Q4_K_M.gguf": []byte("x"), "a/../evil-Q4_K_M.gguf": []byte("x")})
	s := f.store()
	if _, err := s.Resolve(t.Context(), name, nil); err == nil || !strings.Contains(err.Error(), "no GGUF model") {
		t.Errorf("%v, want that there is no model", err)
	}
	if len(f.requests) > 0 {
		t.Errorf("asks for %d files", len(f.requests))
	}
}

// laidOut returns a store of which every program's folder holds a model, and the names of all of them.
func laidOut(t *testing.T) (s *Store, names map[string]string) {
	dir := t.TempDir()
	at := func(path string) string { return filepath.Join(dir, filepath.FromSlash(path)) }
	s = &Store{Own: at("own"), Ollama: []string{at("ollama")}, LMStudio: []string{at("lm")}, Llama: []string{at("llama")}, Hub: []string{at("hub")}, Offline: "a test", Endpoint: endpoint}
	ollama := func(manifest string, keys map[string]any) string {
		writeModel(t, at("tmp.gguf"), keys)
		content, err := os.ReadFile(at("tmp.gguf"))
		if err != nil {
			t.Fatal(err)
		}
		os.Remove(at("tmp.gguf"))
		write(t, at("ollama/blobs/sha256-"+sha(content)), string(content))
		write(t, at("ollama/manifests/"+manifest), fmt.Sprintf(`{"layers":[{"mediaType":"application/vnd.ollama.image.license","digest":"sha256:00"},
			{"mediaType":"application/vnd.ollama.image.model","digest":"sha256:%s","size":1}]}`, sha(content)))
		return at("ollama/blobs/sha256-" + sha(content))
	}
	names = map[string]string{
		"gemma3":                                     at("own/gemma-3-270m.Q4_K_M.gguf"),
		"hf.co/o/own/m.gguf":                         at("own/hf.co/o/own/m.gguf"),
		"hf.co/o/own/resolve/v1/m.gguf":              at("own/hf.co/o/own@v1/m.gguf"),
		"ollama:gemma3:270m":                         ollama("registry.ollama.ai/library/gemma3/270m", map[string]any{"general.file_type": uint32(15)}),
		"ollama:hf.co/o/r:Q4_0":                      ollama("hf.co/o/r/Q4_0", map[string]any{"general.name": "other"}),
		"lmstudio:pub/repo/m-Q4_K_M.gguf":            at("lm/pub/repo/m-Q4_K_M.gguf"),
		"llama.cpp:ggml-org_x_y-Q4_K_M.gguf":         at("llama/ggml-org_x_y-Q4_K_M.gguf"),
		"hf.co/o/hub/sub/m-Q8_0-00001-of-00002.gguf": at("hub/models--o--hub/snapshots/abc/sub/m-Q8_0-00001-of-00002.gguf"),
	}
	for name, path := range names {
		if !strings.HasPrefix(name, "ollama:") && !strings.Contains(name, "-of-") {
			writeModel(t, path, nil)
		}
	}
	// of the hub a split model, as links to blobs
	writeModel(t, at("tmp-00001-of-00002.gguf"), map[string]any{"split.no": uint16(0), "split.count": uint16(2), "split.tensors.count": int32(1)})
	write(t, at("hub/models--o--hub/refs/main"), "abc\n")
	for i := range 2 {
		blob := at(fmt.Sprintf("hub/models--o--hub/blobs/%d", i))
		write(t, blob, "")
		link := at(fmt.Sprintf("hub/models--o--hub/snapshots/abc/sub/m-Q8_0-%05d-of-00002.gguf", i+1))
		os.MkdirAll(filepath.Dir(link), 0o777)
		if err := os.Symlink(fmt.Sprintf("../../../blobs/%d", i), link); err != nil {
			t.Fatal(err)
		}
	}
	os.Rename(at("tmp-00001-of-00002.gguf"), at("hub/models--o--hub/blobs/0"))
	// what is no base
	writeModel(t, at("lm/pub/repo/mmproj-m.gguf"), nil)
	writeModel(t, at("lm/pub/repo/lora.gguf"), map[string]any{"general.type": "adapter"})
	write(t, at("lm/pub/repo/m.gguf.part"), "x")
	write(t, at("ollama/manifests/registry.ollama.ai/library/broken/latest"), "{")
	return s, names
}

func TestList(t *testing.T) {
	t.Parallel()
	s, names := laidOut(t)
	got := map[string]Model{}
	for _, m := range s.List() {
		got[m.Name] = m
	}
	for name, path := range names {
		m, ok := got[name]
		if !ok || m.Path != path {
			t.Errorf("%q is listed at %q, %v; want %q", name, m.Path, ok, path)
			continue
		}
		if strings.Contains(name, "-of-") {
			if m.Problem == "" { // its second part is empty
				t.Errorf("%q is listed without a problem", name)
			}
		} else if m.Architecture != "llama" || m.Parameters != 128 || m.Bytes == 0 || m.Problem != "" {
			t.Errorf("%q is listed as %+v", name, m)
		}
		if want := map[bool]string{true: "Q4_K_M", false: "q8_0"}[name == "ollama:gemma3:270m"]; m.Problem == "" && m.Type != want {
			t.Errorf("%q is listed with the type %q, want %q", name, m.Type, want)
		}
		delete(got, name)
	}
	for name, m := range got {
		t.Errorf("%q is listed, %+v", name, m)
	}
}

// What is listed is found by its name, without a network.
func TestListedNamesResolve(t *testing.T) {
	t.Parallel()
	s, names := laidOut(t)
	for name, path := range names {
		if found, err := s.Resolve(t.Context(), name, nil); err != nil || found.Path != path || found.Name != name {
			t.Errorf("Resolve(%q) = %+v, %v; want %q", name, found, err, path)
		}
	}
	for name, path := range map[string]string{
		"lmstudio:pub/repo":       names["lmstudio:pub/repo/m-Q4_K_M.gguf"],
		"hf.co/pub/repo":          names["lmstudio:pub/repo/m-Q4_K_M.gguf"],
		"hf.co/ggml-org/x:q4_k_m": names["llama.cpp:ggml-org_x_y-Q4_K_M.gguf"],
		"hf.co/o/hub:Q8_0":        names["hf.co/o/hub/sub/m-Q8_0-00001-of-00002.gguf"],
		"ollama:hf.co/o/r:Q4_0":   names["ollama:hf.co/o/r:Q4_0"],
		"some/where.gguf":         "some/where.gguf",
		names["gemma3"]:           names["gemma3"],
	} {
		if found, err := s.Resolve(t.Context(), name, nil); err != nil || found.Path != path {
			t.Errorf("Resolve(%q) = %+v, %v; want %q", name, found, err, path)
		}
	}
	for name, want := range map[string]string{
		"smollm2":                "scripts/real-model smollm2 brings it",
		"ollama:gemma3:1b":       "there is ollama:gemma3:270m",
		"ollama:other":           "ollama pull other:latest brings it",
		"ollama:broken":          "",
		"ollama:../x":            "such as ollama:gemma3:270m",
		"lmstudio:pub/none":      "finetune models lists",
		"llama.cpp:none.gguf":    "finetune models lists",
		"llama.cpp:../none.gguf": "",
		"hf.co/o/none":           "finetune models lists",
	} {
		_, err := s.Resolve(t.Context(), name, nil)
		if err == nil || !strings.Contains(strings.Join(hint.Of(err), "\n"), want) {
			t.Errorf("Resolve(%q): %v, hints %q; want one with %q", name, err, hint.Of(err), want)
		}
	}
}

// A file goes before a name.
func TestFileBeforeName(t *testing.T) {
	t.Chdir(t.TempDir())
	write(t, "gemma3", "x")
	s := &Store{Own: t.TempDir()}
	if found, err := s.Resolve(t.Context(), "gemma3", nil); err != nil || found != (Found{Path: "gemma3"}) {
		t.Errorf("Resolve = %+v, %v; want the file", found, err)
	}
}

func TestFromEnvironment(t *testing.T) {
	home := t.TempDir()
	t.Setenv("HOME", home)
	write(t, filepath.Join(home, ".lmstudio-home-pointer"), "/elsewhere/lm\n")
	s, err := FromEnvironment(func(string) string { return "" })
	if err != nil {
		t.Fatal(err)
	}
	if s.Own != filepath.Join(home, ".cache/finetune/models") || s.Endpoint != endpoint || s.Offline != "" || s.Token != "" ||
		s.Ollama[0] != filepath.Join(home, ".ollama/models") || s.LMStudio[0] != "/elsewhere/lm/models" || s.Hub[0] != filepath.Join(home, ".cache/huggingface/hub") {
		t.Errorf("of an empty environment %+v", s)
	}
	s, err = FromEnvironment(func(key string) string {
		return map[string]string{"FINETUNE_CACHE": "/f", "OLLAMA_MODELS": "/o", "HF_HOME": "/h", "HF_TOKEN": " t\n", "HF_ENDPOINT": "http://127.0.0.1:1/", "HF_HUB_OFFLINE": "1", "LLAMA_CACHE": "/l"}[key]
	})
	if err != nil {
		t.Fatal(err)
	}
	if s.Own != "/f/models" || !slices.Equal(s.Ollama, []string{"/o"}) || !slices.Equal(s.Hub, []string{"/h/hub"}) || s.Token != "t" ||
		s.Endpoint != "http://127.0.0.1:1" || s.Offline == "" || !slices.Equal(s.Llama, []string{"/l"}) {
		t.Errorf("of the programs' variables %+v", s)
	}
}
