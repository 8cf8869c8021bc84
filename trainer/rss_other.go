//go:build !unix

package trainer

// PeakMemory is not known on this system.
func PeakMemory() int64 { return 0 }
