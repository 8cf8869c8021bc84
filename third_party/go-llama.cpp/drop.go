package llama

import (
	"unsafe"

	"github.com/go-skynet/go-llama.cpp/ggml"
)

// span is a range of addresses.
type span struct{ start, end uintptr }

// faultAround is what Linux maps of a file when one page of it is touched, as far as it is in the file cache: the 64 KiB
// around it, at a multiple of that (mm/memory.c, fault_around_bytes). No page is larger.
const faultAround = 64 << 10

// DropWeights tells the system that the pages of these weights need not stay in the process's memory, and reports whether
// it could, for all of them. Nothing is lost by it: who reads them next gets the pages from the system's file cache, or
// from the disk when they have left that too. It cannot be done to weights that were read instead of mapped
// (ModelParams.NoMmap), nor on systems other than Linux, where no such order is known to take effect at once.
//
// Goroutines may share it, and others may read the weights meanwhile.
func (m *Model) DropWeights(weights []ggml.Tensor) bool { return m.drop(weights, false) }

// DropFiles does so for everything in the files that hold the weights. llama.cpp maps with MAP_POPULATE: after a load the
// whole of them is in memory, needed or not.
func (m *Model) DropFiles(weights []ggml.Tensor) bool { return m.drop(weights, true) }

func (m *Model) drop(weights []ggml.Tensor, whole bool) bool {
	m.findMappings.Do(func() { m.mappings = sharedMappings() })
	all := true
	for _, w := range weights {
		all = dropPages(w.Raw(), m.mappings, whole) && all
	}
	return all
}

// WeightPages is the most memory that reading the whole of a mapped weight takes, in bytes: what lies around it comes with
// it, and DropWeights drops it too.
func WeightPages(w ggml.Tensor) int64 {
	s := around(w.Raw())
	return int64(s.end - s.start)
}

// RowPages is the most memory that reading any one row of a mapped weight takes.
func RowPages(w ggml.Tensor) int64 {
	return (w.NB()[1]+faultAround-1)/faultAround*faultAround + faultAround
}

// around is the span that data is mapped with.
func around(data []byte) span {
	from := uintptr(unsafe.Pointer(unsafe.SliceData(data)))
	to := from + uintptr(len(data))
	return span{from / faultAround * faultAround, (to + faultAround - 1) / faultAround * faultAround}
}

// pagesOf is the span that data is mapped with, cut to the mapping that holds it, or the whole of that mapping; false if
// none holds it.
func pagesOf(data []byte, mappings []span, whole bool) (span, bool) {
	s, from := around(data), uintptr(unsafe.Pointer(unsafe.SliceData(data)))
	for _, m := range mappings {
		switch {
		case from < m.start || m.end < from+uintptr(len(data)):
		case whole:
			return m, true
		default:
			return span{max(m.start, s.start), min(m.end, s.end)}, true
		}
	}
	return span{}, false
}
