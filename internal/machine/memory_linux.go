package machine

import "syscall"

// Memory returns the memory of the machine in bytes, 0 where it is not known.
func Memory() int64 {
	var info syscall.Sysinfo_t
	if syscall.Sysinfo(&info) != nil {
		return 0
	}
	return int64(uint64(info.Totalram) * uint64(info.Unit)) // the fields have 32 bits on some machines
}
