//go:build !unix

package machine

// PeakMemory returns 0: the peak is not known on this system.
func PeakMemory() int64 { return 0 }
