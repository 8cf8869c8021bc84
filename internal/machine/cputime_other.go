//go:build !unix

package machine

import "time"

// processorTime is not known here.
func processorTime() time.Duration { return -1 }
