//go:build linux || darwin || freebsd

package machine

import "syscall"

// FreeDisk returns how many bytes of the disk that a folder is on are free for who runs this, 0 where that is not known.
func FreeDisk(dir string) int64 {
	var s syscall.Statfs_t
	if syscall.Statfs(dir, &s) != nil {
		return 0
	}
	return int64(s.Bavail) * int64(s.Bsize)
}
