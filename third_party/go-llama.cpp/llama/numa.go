package llama

// #include "bridge.h"
import "C"

import "sync"

// InitNUMA spreads memory and threads over the NUMA nodes, for the whole process and once (llama_numa_init with
// GGML_NUMA_STRATEGY_DISTRIBUTE).
var InitNUMA = sync.OnceFunc(func() {
	const distribute = 1
	C.llama_numa_init(distribute)
})
