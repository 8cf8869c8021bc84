package llama

import (
	"os"
	"unsafe"

	"github.com/go-skynet/go-llama.cpp/ggml"
)

// span is a range of addresses.
type span struct{ start, end uintptr }

// DropWeights tells the system that the pages of these weights need not stay in the process's memory, and reports whether
// it could, for all of them. Nothing is lost by it: who reads them next gets the pages from the system's file cache, or
// from the disk when they have left that too. It cannot be done to weights that were read instead of mapped
// (ModelParams.NoMmap), nor on systems other than Linux, where no such order is known to take effect at once.
//
// Goroutines may share it, and others may read the weights meanwhile.
func (m *Model) DropWeights(weights []ggml.Tensor) bool {
	m.findMappings.Do(func() { m.mappings = sharedMappings() })
	all := true
	for _, w := range weights {
		all = dropPages(w.Raw(), m.mappings) && all
	}
	return all
}

// pagesOf is the span of whole pages that data lies in, cut to the mapping that holds them; false if none does.
func pagesOf(data []byte, mappings []span) (span, bool) {
	page := uintptr(os.Getpagesize())
	from := uintptr(unsafe.Pointer(unsafe.SliceData(data)))
	to := from + uintptr(len(data))
	for _, m := range mappings {
		if m.start <= from && to <= m.end {
			return span{max(m.start, from/page*page), min(m.end, (to+page-1)/page*page)}, true
		}
	}
	return span{}, false
}
