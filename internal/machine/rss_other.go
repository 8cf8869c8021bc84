//go:build !unix

package machine

// PeakMemory returns 0: the peak is not known on this system.
func PeakMemory() int64 { return 0 }

// ResidentMemory returns 0: it is not known on this system.
func ResidentMemory() int64 { return 0 }
