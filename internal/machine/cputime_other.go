//go:build !unix

package machine

import "time"

// processorTime returns a time below 0: it is not known on this system.
func processorTime() time.Duration { return -1 }
