package trainer

// What a run holds besides the engine's work memory, in bytes.
const (
	bytesAParameter = 5 * 4    // value, the copy that the graph reads, gradient, two moments
	runtimeBytes    = 48 << 20 // the program, llama.cpp's tables and buffers, the data
)

// leastWork is the work memory that is always taken where it helps: enough to keep all activations of a model of some
// hundred million parameters at 512 tokens.
const leastWork = 640 << 20

// WorkLimit is the memory in bytes that the engine may use for activations and gradients. With a limit on the memory of
// the whole run it is what the mapped base and the adapter leave, which may be nothing; without one (0) as much as the
// base itself takes, at least leastWork: a run then needs some twice the size of its base.
func WorkLimit(weights int64, parameters int, maxMemory int64) int64 {
	if maxMemory == 0 {
		return max(leastWork, weights)
	}
	return max(1, maxMemory-fixedBytes(weights, parameters))
}

// fixedBytes is what a run holds whatever the batch.
func fixedBytes(weights int64, parameters int) int64 {
	return weights + bytesAParameter*int64(parameters) + runtimeBytes
}
