// Package models finds base models by name: in a cache of our own, where Ollama, LM Studio, llama.cpp and the Hugging Face hub's
// programs keep theirs, and on the hub, from where it brings them.
//
//	store, err := models.FromEnvironment(os.Getenv)
//	found, err := store.Resolve(ctx, "ollama:gemma3:270m", nil) // found.Path is a GGUF
//
// A name is one of
//
//	PATH                                                a file that there is
//	smollm2, gemma3                                     what scripts/real-model brings
//	ollama:NAME[:TAG]                                   as Ollama names it, from its local store
//	lmstudio:PUBLISHER/REPO[/FILE.gguf]                 as LM Studio keeps it
//	llama.cpp:FILE.gguf                                 in llama.cpp's own cache
//	hf.co/OWNER/REPO[:TYPE], hf.co/OWNER/REPO/FILE.gguf a repository of the hub: from the caches, or from the network
//
// Only the last can use the network, and only where none of the caches has it. Other programs' folders are read and never
// written. It needs no native code.
package models

import (
	"cmp"
	"os"
	"path/filepath"
	"runtime"
	"strings"
)

// Sources of models, in the order in which they are searched and listed.
const (
	SourceOwn      = "finetune"
	SourceOllama   = "ollama"
	SourceLMStudio = "lmstudio"
	SourceLlama    = "llama.cpp"
	SourceHub      = "huggingface"
)

// Store is where models are looked for. Goroutines may share it; two programs that bring one model at once do not disturb each
// other.
type Store struct {
	Own      string   // our cache, the only folder that is written
	Ollama   []string // folders with manifests/ and blobs/
	LMStudio []string // folders of PUBLISHER/REPO/FILE.gguf
	Llama    []string // folders of OWNER_REPO_FILE.gguf
	Hub      []string // folders of models--OWNER--REPO, as the hub's own programs and llama.cpp keep them

	Endpoint string // of the hub, such as https://huggingface.co
	Token    string // for the endpoint's host and no other; empty = none
	Offline  string // why no network is used, whatever is asked for; empty = it is

	waits waits // between attempts; zero = those for people
}

// endpoint is the hub's address where HF_ENDPOINT names no other.
const endpoint = "https://huggingface.co"

// FromEnvironment returns a Store of the usual folders, or those that the programs' own variables name: FINETUNE_CACHE,
// OLLAMA_MODELS, LLAMA_CACHE, HF_HUB_CACHE, HF_HOME, XDG_CACHE_HOME, and of the hub HF_ENDPOINT, HF_TOKEN and HF_HUB_OFFLINE.
// The error is that there is neither a home nor a cache folder.
func FromEnvironment(getenv func(string) string) (*Store, error) {
	own, err := ownCache(getenv)
	if err != nil {
		return nil, err
	}
	home, _ := os.UserHomeDir() // without one the other programs have no folders
	cache := getenv("XDG_CACHE_HOME")
	if cache == "" {
		cache = under(home, ".cache")
	}
	s := &Store{
		Own:      own,
		Ollama:   firstOf(getenv("OLLAMA_MODELS"), under(home, ".ollama/models"), "/usr/share/ollama/.ollama/models"),
		LMStudio: lmStudioFolders(home),
		Llama:    firstOf(getenv("LLAMA_CACHE"), llamaCache(home, cache, getenv)),
		Hub:      firstOf(cmp.Or(getenv("HF_HUB_CACHE"), getenv("HUGGINGFACE_HUB_CACHE"), under(getenv("HF_HOME"), "hub")), under(cache, "huggingface/hub")),
		Endpoint: strings.TrimRight(cmp.Or(getenv("HF_ENDPOINT"), endpoint), "/"),
		Token:    strings.TrimSpace(getenv("HF_TOKEN")),
	}
	if isTrue(getenv("HF_HUB_OFFLINE")) {
		s.Offline = "HF_HUB_OFFLINE forbids the network"
	}
	return s, nil
}

// ownCache returns models/ in FINETUNE_CACHE or in finetune/ of the user's caches, as scripts/real-model has it.
func ownCache(getenv func(string) string) (string, error) {
	if dir := getenv("FINETUNE_CACHE"); dir != "" {
		return filepath.Join(dir, "models"), nil
	}
	if dir := getenv("XDG_CACHE_HOME"); filepath.IsAbs(dir) {
		return filepath.Join(dir, "finetune", "models"), nil
	}
	home, err := os.UserHomeDir()
	return filepath.Join(home, ".cache", "finetune", "models"), err
}

// lmStudioFolders returns where LM Studio keeps models: in the home that its pointer names, and in those of its versions.
func lmStudioFolders(home string) (dirs []string) {
	if home == "" {
		return nil
	}
	const most = 4096 // of a path
	if text, err := readSmall(filepath.Join(home, ".lmstudio-home-pointer"), most); err == nil && filepath.IsAbs(strings.TrimSpace(string(text))) {
		dirs = append(dirs, filepath.Join(strings.TrimSpace(string(text)), "models"))
	}
	for _, dir := range []string{".lmstudio/models", ".cache/lm-studio/models"} {
		if dir = under(home, dir); len(dirs) == 0 || dirs[0] != dir {
			dirs = append(dirs, dir)
		}
	}
	return dirs
}

// llamaCache returns where llama.cpp kept what it had downloaded until it took to the hub's cache.
func llamaCache(home, cache string, getenv func(string) string) string {
	switch runtime.GOOS {
	case "darwin":
		return under(home, "Library/Caches/llama.cpp")
	case "windows":
		return under(getenv("LOCALAPPDATA"), "llama.cpp")
	}
	return under(cache, "llama.cpp")
}

// under returns a path below dir, empty without one.
func under(dir, path string) string {
	if dir == "" {
		return ""
	}
	return filepath.Join(dir, filepath.FromSlash(path))
}

// firstOf returns the folder that a user has named, or else the usual ones.
func firstOf(named string, usual ...string) (dirs []string) {
	if named != "" {
		return []string{named}
	}
	for _, dir := range usual {
		if dir != "" {
			dirs = append(dirs, dir)
		}
	}
	return dirs
}

// isTrue reads a switch as the hub's own programs do.
func isTrue(value string) bool {
	switch strings.ToLower(value) {
	case "1", "on", "yes", "true":
		return true
	}
	return false
}

// Place is a folder that models are looked for in.
type Place struct {
	Source string `json:"source"` // SourceOwn and the others
	Path   string `json:"path"`
}

// Places returns the folders, whether they are there or not.
func (s *Store) Places() []Place {
	all := []Place{{SourceOwn, s.Own}}
	for _, p := range []struct {
		source string
		dirs   []string
	}{{SourceOllama, s.Ollama}, {SourceLMStudio, s.LMStudio}, {SourceLlama, s.Llama}, {SourceHub, s.Hub}} {
		for _, dir := range p.dirs {
			all = append(all, Place{p.source, dir})
		}
	}
	return all
}
