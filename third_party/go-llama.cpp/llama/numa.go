package llama

// #include "bridge.h"
import "C"

import "sync"

// InitNUMA spreads memory and threads over the NUMA nodes, for the whole process and once (llama_numa_init with
// GGML_NUMA_STRATEGY_DISTRIBUTE).
var InitNUMA = sync.OnceFunc(func() {
	C.llama_numa_init(C.GGML_NUMA_STRATEGY_DISTRIBUTE)
})
