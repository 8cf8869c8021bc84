package llama

import (
	"unsafe"

	"github.com/go-skynet/go-llama.cpp/ggml"
)

// span is a range of addresses.
type span struct{ start, end uintptr }

// faultAround is what Linux maps of a file when one page of it is touched, as far as it is in the file cache: the 64 KiB
// around it, at a multiple of that (mm/memory.c, fault_around_bytes).
const faultAround = 64 << 10

// WindowBytes is what is mapped instead where the file cache holds the file in huge pages; one of them goes as a whole, too.
const WindowBytes = 2 << 20

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

// WeightWindows returns the windows of WindowBytes that reading a mapped weight may bring into memory, by their number
// in the address space: first up to but not including end.
func WeightWindows(w ggml.Tensor) (first, end uintptr) {
	s := around(w.Raw(), WindowBytes)
	return s.start / WindowBytes, s.end / WindowBytes
}

// around returns the span of whole units that data lies in.
func around(data []byte, unit uintptr) span {
	from := uintptr(unsafe.Pointer(unsafe.SliceData(data)))
	to := from + uintptr(len(data))
	return span{from / unit * unit, (to + unit - 1) / unit * unit}
}

// pagesOf returns the span that data is mapped with, cut to the mapping that holds it, or the whole of that mapping;
// false if none holds it.
func pagesOf(data []byte, mappings []span, whole bool) (span, bool) {
	s, from := around(data, faultAround), uintptr(unsafe.Pointer(unsafe.SliceData(data)))
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
