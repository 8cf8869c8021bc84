//go:build !linux

package bench

// resetPeak does nothing: the largest resident size of one part of a process is known on Linux only.
func resetPeak() {}
