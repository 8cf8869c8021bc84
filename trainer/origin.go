package trainer

import (
	"crypto/sha256"
	"encoding/hex"
	"io"
	"os"

	"finetune/adapter"
	"finetune/gguf"
	"finetune/internal/version"
)

// origin returns what an adapter's file says of where it comes from, beside the base and the method that package
// adapter writes: keys that llama.cpp passes over.
func (s *setup) origin() (map[string]gguf.Value, error) {
	c := s.config
	hash, err := fileHash(c.Data)
	if err != nil {
		return nil, err
	}
	keys := map[string]gguf.Value{
		adapter.KeyVersion:      version.Version,
		adapter.KeyTrainedRank:  uint32(c.Rank),
		adapter.KeyTrainedAlpha: float32(c.Alpha),
		adapter.KeyDataHash:     hash,
		adapter.KeyBaseWeights:  s.id.Weights,
	}
	if s.id.Template != "" {
		keys[adapter.KeyTemplateHash] = s.id.Template
	}
	return keys, nil
}

// fileHash returns "sha256:" and the 64 digits of a file's hash.
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
