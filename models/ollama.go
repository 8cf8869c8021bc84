package models

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"finetune/internal/hint"
)

// Ollama's store is a folder of manifests, manifests/HOST/NAMESPACE/MODEL/TAG, each a JSON object that lists layers by their
// digests, and one of the layers, blobs/sha256-HEX. A layer of the type below is a GGUF.
const (
	ollamaModel  = "application/vnd.ollama.image.model"
	ollamaTensor = "application/vnd.ollama.image.tensor" // a model that is no GGUF, in safetensors
)

// What a name in Ollama's store leaves out.
const (
	ollamaHost      = "registry.ollama.ai"
	ollamaNamespace = "library"
	ollamaTag       = "latest"
)

// ollamaName is a name in Ollama's store.
type ollamaName struct{ host, namespace, model, tag string }

var ollamaPart = regexp.MustCompile(`^[A-Za-z0-9_][A-Za-z0-9._-]{0,127}$`)

// parseOllama reads [HOST/][NAMESPACE/]MODEL[:TAG].
func parseOllama(s string) (ollamaName, error) {
	n := ollamaName{ollamaHost, ollamaNamespace, "", ollamaTag}
	path := s
	if i := strings.LastIndexByte(s, ':'); i > strings.LastIndexByte(s, '/') {
		path, n.tag = s[:i], s[i+1:]
	}
	parts := strings.Split(path, "/")
	switch len(parts) {
	case 1:
		n.model = parts[0]
	case 2:
		n.namespace, n.model = parts[0], parts[1]
	case 3:
		n.host, n.namespace, n.model = parts[0], parts[1], parts[2]
	}
	for i, part := range n.parts() {
		if i == 0 {
			part, _, _ = strings.Cut(part, ":") // its port
		}
		if !ollamaPart.MatchString(part) || strings.Contains(part, "..") {
			return n, hint.With(fmt.Errorf("models: name %q: want a name as Ollama has it", prefixOllama+s), "such as ollama:gemma3:270m")
		}
	}
	return n, nil
}

func (n ollamaName) parts() []string { return []string{n.host, n.namespace, n.model, n.tag} }

// String returns the name without what goes without saying.
func (n ollamaName) String() string {
	s := n.model + ":" + n.tag
	if n.host != ollamaHost {
		return n.host + "/" + n.namespace + "/" + s
	}
	if n.namespace != ollamaNamespace {
		return n.namespace + "/" + s
	}
	return s
}

// ollamaPath returns the GGUF of a model in Ollama's store.
func (s *Store) ollamaPath(name string) (string, error) {
	n, err := parseOllama(name)
	if err != nil {
		return "", err
	}
	for _, dir := range s.Ollama {
		path, err := ollamaBlob(dir, n)
		if err == nil || !errors.Is(err, fs.ErrNotExist) {
			return path, err
		}
	}
	var near []string
	for _, dir := range s.Ollama {
		for found := range ollamaNames(dir) {
			if found.model == n.model {
				near = append(near, prefixOllama+found.String())
			}
		}
	}
	advice := "ollama pull " + n.String() + " brings it"
	if len(near) > 0 {
		slices.Sort(near)
		advice = "there is " + strings.Join(near, ", ")
	}
	return "", hint.With(fmt.Errorf("models: %q: not in Ollama's store, %s", prefixOllama+name, quotedAll(s.Ollama)), advice,
		"OLLAMA_MODELS names another store")
}

// ollamaBlob returns the path of the one GGUF of a manifest. A store without that model is fs.ErrNotExist by errors.Is.
func ollamaBlob(dir string, n ollamaName) (string, error) {
	const most = 1 << 20 // of a manifest
	path := filepath.Join(append([]string{dir, "manifests"}, n.parts()...)...)
	text, err := readSmall(path, most)
	if err != nil {
		return "", err
	}
	var manifest struct {
		Layers []struct{ MediaType, Digest string }
	}
	if err := json.Unmarshal(text, &manifest); err != nil {
		return "", fmt.Errorf("models: manifest %q: %w", path, err)
	}
	for _, l := range manifest.Layers {
		switch hex, ok := strings.CutPrefix(l.Digest, "sha256:"); {
		case l.MediaType == ollamaTensor:
			return "", fmt.Errorf("models: %q: its weights are safetensors, want a GGUF", prefixOllama+n.String())
		case l.MediaType != ollamaModel:
		case !ok || !isSHA256(hex):
			return "", fmt.Errorf("models: manifest %q: digest %q: want sha256: and 64 hexadecimal digits", path, l.Digest)
		default:
			blob := filepath.Join(dir, "blobs", "sha256-"+hex)
			if _, err := os.Stat(blob); err != nil {
				return "", hint.With(fmt.Errorf("models: %q: its manifest is there, its file %q is not", prefixOllama+n.String(), blob), "ollama pull "+n.String()+" brings it")
			}
			return blob, nil
		}
	}
	return "", fmt.Errorf("models: %q: no model in its manifest %q", prefixOllama+n.String(), path)
}

var sha256Hex = regexp.MustCompile(`^[0-9a-f]{64}$`)

func isSHA256(s string) bool { return sha256Hex.MatchString(s) }

// ollamaNames yields the names of the manifests in a store.
func ollamaNames(dir string) func(yield func(ollamaName) bool) {
	return func(yield func(ollamaName) bool) {
		paths, _ := filepath.Glob(filepath.Join(escapeGlob(dir), "manifests", "*", "*", "*", "*")) // its error is a bad pattern
		for _, path := range paths {
			parts := strings.Split(filepath.ToSlash(path), "/")
			parts = parts[len(parts)-4:]
			if n := (ollamaName{parts[0], parts[1], parts[2], parts[3]}); !yield(n) {
				return
			}
		}
	}
}

// escapeGlob returns a path as a pattern that matches it alone.
func escapeGlob(path string) string {
	if filepath.Separator == '\\' {
		return path // has no escapes there
	}
	return strings.NewReplacer(`\`, `\\`, `*`, `\*`, `?`, `\?`, `[`, `\[`).Replace(path)
}

func quotedAll(dirs []string) string {
	var all []string
	for _, dir := range dirs {
		all = append(all, fmt.Sprintf("%q", dir))
	}
	return strings.Join(all, " or ")
}
