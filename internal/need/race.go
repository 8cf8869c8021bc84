//go:build race

package need

// raced says whether the race detector is in the program, which multiplies its memory.
const raced = true
