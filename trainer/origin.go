package trainer

import (
	"finetune/adapter"
	"finetune/gguf"
	"finetune/internal/version"
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
