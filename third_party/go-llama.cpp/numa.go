package llama

// #include "bridge.h"
import "C"

import "sync"

// initNUMA spreads memory and threads over the nodes (GGML_NUMA_STRATEGY_DISTRIBUTE).
var initNUMA = sync.OnceFunc(func() {
	const distribute = 1
	C.llama_numa_init(distribute)
})
