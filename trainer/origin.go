package trainer

import (
	"crypto/sha256"
	"encoding/hex"
	"io"
	"os"
	"runtime/debug"

	"finetune/adapter"
	"finetune/gguf"

	"github.com/go-skynet/go-llama.cpp/llama"
)

// origin is what an adapter's file says of where it comes from, beside the base and the method that package adapter writes:
// keys that llama.cpp passes over.
func (s *setup) origin() (map[string]gguf.Value, error) {
	c := s.config
	hash, err := fileHash(c.Data)
	if err != nil {
		return nil, err
	}
	keys := map[string]gguf.Value{
		adapter.KeyVersion:      Version(),
		adapter.KeyTrainedRank:  uint32(c.Rank),
		adapter.KeyTrainedAlpha: float32(c.Alpha),
		adapter.KeyDataHash:     hash,
	}
	if hash := templateHash(s.model); hash != "" {
		keys[adapter.KeyTemplateHash] = hash
	}
	return keys, nil
}

// Version is that of the module that this package is built into: a tag, or "(devel)" outside a release.
func Version() string {
	if info, ok := debug.ReadBuildInfo(); ok && info.Main.Version != "" {
		return info.Main.Version
	}
	return "(devel)"
}

// fileHash is "sha256:" and the 64 digits of a file's hash.
func fileHash(path string) (string, error) {
	f, err := os.Open(path)
	if err != nil {
		return "", err
	}
	defer f.Close()
	h := sha256.New()
	if _, err := io.Copy(h, f); err != nil {
		return "", err
	}
	return "sha256:" + hex.EncodeToString(h.Sum(nil)), nil
}

// templateHash is the same for a model's chat template, empty if it has none.
func templateHash(m *llama.Model) string {
	text, ok := m.ChatTemplate("")
	if !ok {
		return ""
	}
	return adapter.HashText(text)
}
