package llama

import (
	"bufio"
	"os"
	"strconv"
	"strings"
	"syscall"
	"unsafe"
)

// sharedMappings lists where this process shares pages with files.
func sharedMappings() (found []span) {
	list, err := os.Open("/proc/self/maps")
	if err != nil {
		return nil
	}
	defer list.Close()
	lines := bufio.NewScanner(list)
	for lines.Scan() { // 7f62740e3000-7f627bf47000 r--s 000b2000 fe:00 1327236   /models/base.gguf
		field := strings.Fields(lines.Text())
		if len(field) < 5 || !strings.HasSuffix(field[1], "s") || field[4] == "0" {
			continue
		}
		from, to, _ := strings.Cut(field[0], "-")
		start, err1 := strconv.ParseUint(from, 16, 64)
		end, err2 := strconv.ParseUint(to, 16, 64)
		if err1 == nil && err2 == nil {
			found = append(found, span{uintptr(start), uintptr(end)})
		}
	}
	return found
}

// dropPages takes the pages that hold data out of the process, if they are shared with a file: of other memory the same
// order would lose what it holds.
func dropPages(data []byte, mappings []span, whole bool) bool {
	pages, ok := pagesOf(data, mappings, whole)
	if !ok {
		return false
	}
	first := unsafe.Pointer(unsafe.SliceData(data))
	ahead := uintptr(first) - pages.start
	return syscall.Madvise(unsafe.Slice((*byte)(unsafe.Add(first, -int(ahead))), pages.end-pages.start), syscall.MADV_DONTNEED) == nil
}
