package trainer

import (
	"finetune/adapter"
	"finetune/gguf"
	"finetune/internal/version"
	"finetune/trainer/data"
)

// origin returns what an adapter's file says of where it comes from, beside the base and the method that package
// adapter writes: keys that llama.cpp passes over.
func (s *setup) origin() (map[string]gguf.Value, error) {
	c := s.config
	hash, err := data.Hash(c.Data)
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
