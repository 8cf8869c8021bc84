package machine

import (
	"bytes"
	"os"
	"strconv"
	"strings"
	"syscall"
)

// Memory returns the most memory that the process can take, in bytes: that of the machine or, where that is less, of the
// control groups that it is in, as in a container; 0 where it is not known.
func Memory() int64 {
	if limit := MemoryLimit(); limit > 0 {
		return limit
	}
	return installed()
}

// installed returns the memory of the machine in bytes, 0 where it is not known.
func installed() int64 {
	var info syscall.Sysinfo_t
	if syscall.Sysinfo(&info) != nil {
		return 0
	}
	return int64(uint64(info.Totalram) * uint64(info.Unit)) // the fields have 32 bits on some machines
}

// MemoryLimit returns the least limit on memory of the control groups that the process is in, in bytes; 0 where there is none
// below what the machine has.
func MemoryLimit() int64 {
	limit := groupLimit("/")
	if total := installed(); total > 0 && limit >= total {
		return 0
	}
	return limit
}

// FreeMemory returns how much of the machine's memory a program could take now without others being paged out, in bytes: what
// proc(5) calls MemAvailable. 0 where it is not known.
func FreeMemory() int64 {
	text, err := os.ReadFile("/proc/meminfo")
	if err != nil {
		return 0
	}
	for line := range bytes.Lines(text) {
		if value, ok := strings.CutPrefix(string(line), "MemAvailable:"); ok {
			kib, _ := strconv.ParseInt(strings.TrimSuffix(strings.TrimSpace(value), " kB"), 10, 64)
			return kib << 10
		}
	}
	return 0
}

// ProcessorName returns what the processor is called, empty where it is not known.
func ProcessorName() string {
	text, err := os.ReadFile("/proc/cpuinfo")
	if err != nil {
		return ""
	}
	for line := range bytes.Lines(text) {
		if key, value, ok := strings.Cut(string(line), ":"); ok && strings.TrimSpace(key) == "model name" {
			return strings.TrimSpace(value)
		}
	}
	return ""
}
