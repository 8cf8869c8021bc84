package run

import (
	"encoding/csv"
	"math"
	"strconv"
	"strings"

	"finetune/internal/setting"
)

// BalancedClasses is the ClassWeights by which each class has the same weight in all: n/(k·n_c) for a text of one of k classes that
// n_c of n texts are of.
const BalancedClasses = "balanced"

// ClassWeight is the weight in the loss of a text of a class.
type ClassWeight struct {
	Label  string
	Weight float64
}

// ClassWeightList returns the entries of ClassWeights, in order; nil where there are none, where classes are balanced, or where
// Validate refuses them.
func (c Config) ClassWeightList() []ClassWeight {
	if c.ClassWeights == "" || c.ClassWeights == BalancedClasses {
		return nil
	}
	entries, err := csv.NewReader(strings.NewReader(c.ClassWeights)).ReadAll()
	if err != nil || len(entries) != 1 {
		return nil
	}
	var list []ClassWeight
	for _, entry := range entries[0] {
		at := strings.LastIndexByte(entry, '=') // a label may have one too
		if at < 0 {
			return nil
		}
		w, err := strconv.ParseFloat(strings.TrimSpace(entry[at+1:]), 64)
		if label := strings.TrimSpace(entry[:at]); err == nil && label != "" && isWeight(w) {
			list = append(list, ClassWeight{label, w})
			continue
		}
		return nil
	}
	return list
}

// isWeight reports whether a float32, in which losses are weighted, has a number above 0 for w.
func isWeight(w float64) bool {
	return w >= math.SmallestNonzeroFloat32 && w <= math.MaxFloat32
}

// classWeights checks the weights of classes as far as that can be done without their labels.
func classWeights(key string, c Config) *setting.Error {
	if c.ClassWeights == "" || c.ClassWeights == BalancedClasses || c.ClassWeightList() != nil {
		return nil
	}
	return &setting.Error{Key: key, Want: BalancedClasses + ", or weights above 0 with commas between them, such as spam=2,other=1", Got: strconv.Quote(c.ClassWeights)}
}
