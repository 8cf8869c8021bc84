package trainer

import (
	"crypto/sha256"
	"encoding/hex"
	"io"
	"os"

	"finetune/adapter"
	"finetune/gguf"
	"finetune/internal/version"
	"finetune/run"
)

// origin returns what an adapter's file says of where it comes from, beside the base and the method that package
// adapter writes: keys that llama.cpp passes over.
func (l *loop) origin() map[string]gguf.Value {
	c := l.config
	keys := map[string]gguf.Value{
		adapter.KeyVersion:      version.Version,
		adapter.KeyTrainedRank:  uint32(c.Rank),
		adapter.KeyTrainedAlpha: float32(c.Alpha),
		adapter.KeyDataHash:     l.dataHash,
		adapter.KeyBaseWeights:  l.id.Weights,
	}
	if l.id.Template != "" {
		keys[adapter.KeyTemplateHash] = l.id.Template
	}
	return keys
}

// hashData returns what tells the training data: the hash of its file, or, where it is several or came from standard input,
// that of the windows which were made of it. It is taken while the run begins: at its end the file may be gone.
func hashData(c run.Config, learned identity) (string, error) {
	if info, err := os.Stat(c.Data); err == nil && info.Mode().IsRegular() {
		return fileHash(c.Data)
	}
	return "sha256:" + hex.EncodeToString(learned.Data[:]), nil
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
