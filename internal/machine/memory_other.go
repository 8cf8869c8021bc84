//go:build !linux

package machine

// Memory returns 0: what the process can take is not known on this system.
func Memory() int64 { return 0 }
