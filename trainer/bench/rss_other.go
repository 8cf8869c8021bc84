//go:build !linux

package bench

// The largest resident size of one part of a process is known on Linux only.

func resetPeakRSS() {}

func peakRSS() int64 { return 0 }
