package machine

import "syscall"

// Memory returns the most memory that the process can take, in bytes: that of the machine or, where that is less, of the
// control groups that it is in, as in a container; 0 where it is not known.
func Memory() int64 {
	total := int64(0)
	var info syscall.Sysinfo_t
	if syscall.Sysinfo(&info) == nil {
		total = int64(uint64(info.Totalram) * uint64(info.Unit)) // the fields have 32 bits on some machines
	}
	limit := groupLimit("/")
	if limit > 0 && (total == 0 || limit < total) {
		return limit
	}
	return total
}
