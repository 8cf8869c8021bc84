//go:build !unix

package machine

import "time"

// ProcessorTime returns a time below 0: it is not known on this system.
func ProcessorTime() time.Duration { return -1 }
