package models

import (
	"fmt"
	"path"
	"regexp"
	"strings"

	"finetune/internal/hint"
)

// packages are what scripts/real-model brings, by its names for them, and their files in our cache.
var packages = map[string]string{
	"smollm2": "SmolLM2-135M-Instruct.Q4_1.gguf",
	"gemma3":  "gemma-3-270m.Q4_K_M.gguf",
}

// Prefixes of the names of other programs' models.
const (
	prefixOllama   = "ollama:"
	prefixLMStudio = "lmstudio:"
	prefixLlama    = "llama.cpp:"
	prefixHub      = "hf.co/"
)

// hubHosts are other ways to write prefixHub.
var hubHosts = []string{"https://huggingface.co/", "https://hf.co/", "huggingface.co/", prefixHub}

// IsName reports whether s has the form of a name, and is no path. A file of that name goes before it.
func IsName(s string) bool {
	_, isPackage := packages[s]
	for _, prefix := range append([]string{prefixOllama, prefixLMStudio, prefixLlama}, hubHosts...) {
		if strings.HasPrefix(s, prefix) {
			return true
		}
	}
	return isPackage
}

// repository is what a name says of a model on the hub.
type repository struct {
	owner, repo string
	revision    string // a branch, tag or commit; empty = main
	file        string // path in the repository; of a split model the first part
	kind        string // such as Q4_K_M, of a name without file; empty = usualType
}

// at returns the name without file and type.
func (r repository) at() string { return prefixHub + r.owner + "/" + r.repo }

// String returns the name as it is listed and accepted.
func (r repository) String() string {
	switch {
	case r.file != "":
		return r.at() + "/" + r.file
	case r.kind != "":
		return r.at() + ":" + r.kind
	}
	return r.at()
}

// branch returns the revision.
func (r repository) branch() string {
	if r.revision == "" {
		return "main"
	}
	return r.revision
}

var (
	word    = regexp.MustCompile(`^[A-Za-z0-9_][A-Za-z0-9._-]{0,95}$`)
	typeTag = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$`)
)

// isWord reports whether s may be a part of a name on the hub, and so of a folder.
func isWord(s string) bool { return word.MatchString(s) && !strings.Contains(s, "..") }

// isFile reports whether p may be a path in a repository: what a listing says is believed to no more than that.
func isFile(p string) bool {
	const most = 512
	if len(p) > most || !strings.HasSuffix(p, ".gguf") || path.Clean(p) != p {
		return false
	}
	for part := range strings.SplitSeq(p, "/") {
		if strings.HasPrefix(part, ".") || part == "" || strings.ContainsFunc(part, unfit) {
			return false
		}
	}
	return true
}

// unfit reports whether a character has a meaning in paths of some system, or in terminals.
func unfit(r rune) bool { return r < ' ' || r == 0x7f || strings.ContainsRune(`\:*?"<>|`, r) }

// parseHub reads the name of a model on the hub, its address there included.
func parseHub(s string) (r repository, err error) {
	bad := func(want string) (repository, error) {
		return r, hint.With(fmt.Errorf("models: name %q: want %s", s, want), "such as hf.co/owner/repo:Q4_K_M or hf.co/owner/repo/file.gguf")
	}
	rest := s
	for _, host := range hubHosts {
		if after, ok := strings.CutPrefix(rest, host); ok {
			rest = after
			break
		}
	}
	rest, _, _ = strings.Cut(rest, "?")
	parts := strings.SplitN(rest, "/", 3)
	if len(parts) < 2 {
		return bad("an owner and a repository")
	}
	r.owner, r.repo = parts[0], parts[1]
	if len(parts) == 2 {
		r.repo, r.kind, _ = strings.Cut(parts[1], ":")
		if strings.HasSuffix(parts[1], ":") || r.kind != "" && !typeTag.MatchString(r.kind) {
			return bad("a type behind the colon")
		}
	} else if r.file = parts[2]; strings.HasPrefix(r.file, "blob/") || strings.HasPrefix(r.file, "resolve/") { // an address on the hub
		_, at, _ := strings.Cut(r.file, "/")
		r.revision, r.file, _ = strings.Cut(at, "/")
		if !isWord(r.revision) {
			return bad("a branch, tag or commit")
		}
	}
	switch {
	case !isWord(r.owner) || !isWord(r.repo):
		return bad("an owner and a repository")
	case r.file != "" && !isFile(r.file):
		return bad("the path of a .gguf file in the repository")
	}
	if r.revision == "main" {
		r.revision = ""
	}
	return r, nil
}
