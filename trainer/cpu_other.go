//go:build !unix

package trainer

import "time"

// processorTime is not known here.
func processorTime() time.Duration { return -1 }
