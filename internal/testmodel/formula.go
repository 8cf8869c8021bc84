package testmodel

import "hash/fnv"

// Uniform returns n numbers from -spread/2 to spread/2 that follow from a name and their place alone: the finalizer of
// MurmurHash3 over FNV-1a of both. scripts/fixtures/formula.py draws the same, to the bit, so that models and start values
// which Python has computed with need not be stored.
func Uniform(name string, n int, spread float32) []float32 {
	h := fnv.New32a()
	h.Write([]byte(name))
	key, v := h.Sum32(), make([]float32, n)
	for i := range v {
		x := key + uint32(i)*0x9e3779b9
		x = (x ^ x>>16) * 0x85ebca6b
		x = (x ^ x>>13) * 0xc2b2ae35
		x ^= x >> 16
		v[i] = (float32(x>>8)/(1<<24) - 0.5) * spread
	}
	return v
}
