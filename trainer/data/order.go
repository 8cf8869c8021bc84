package data

import "math/rand/v2"

// splitStream is the second word of the PCG seed of the split; epochs count up from 0 and never reach it.
const splitStream = 1 << 63

// Order returns the order of n windows in an epoch, from 0: a permutation of 0 … n-1 that depends
// on nothing but its arguments, so that a run resumes from the epoch and the number of
// windows it has used.
func Order(seed uint64, epoch, n int) []int {
	return rand.New(rand.NewPCG(seed, uint64(epoch))).Perm(n)
}
