package machine

import (
	"bytes"
	"os"
	"path"
	"path/filepath"
	"strconv"
	"strings"
)

// groupLimit returns the least limit on memory, in bytes, of the control groups (cgroups(7), version 1 and 2) that the process
// is in and of those above them; 0 for none. root is where /proc and /sys are.
func groupLimit(root string) (least int64) {
	for _, h := range hierarchies(root) {
		for dir := path.Clean("/" + h.group); ; dir = path.Dir(dir) {
			for _, name := range h.files {
				if n := readLimit(filepath.Join(root, h.mount, dir, name)); n > 0 && (least == 0 || n < least) {
					least = n
				}
			}
			if dir == "/" {
				break
			}
		}
	}
	return least
}

// hierarchy is a mounted tree of control groups that limits memory.
type hierarchy struct {
	mount string   // where it is
	group string   // the process's, below mount
	files []string // with limits, in each group
}

// The files of the two versions. Above memory.high a process is not killed, but made to wait until memory was paged out.
var (
	filesV1 = []string{"memory.limit_in_bytes"}
	filesV2 = []string{"memory.max", "memory.high"}
)

// hierarchies finds the trees by what is mounted (proc(5), mountinfo) and what the process is in.
func hierarchies(root string) (all []hierarchy) {
	groups := groupsOf(root)
	mounts, _ := os.ReadFile(filepath.Join(root, "proc/self/mountinfo"))
	for line := range bytes.Lines(mounts) {
		before, after, _ := strings.Cut(string(line), " - ")
		fields, kind := strings.Fields(before), strings.Fields(after)
		if len(fields) < 5 || len(kind) < 3 {
			continue
		}
		h := hierarchy{mount: unescape(fields[4])}
		var group string
		var ok bool
		switch {
		case kind[0] == "cgroup2":
			h.files = filesV2
			group, ok = groups[""]
		case kind[0] == "cgroup" && hasWord(kind[2], "memory"):
			h.files = filesV1
			group, ok = groups["memory"]
		}
		if ok {
			h.group = below(group, unescape(fields[3]))
			all = append(all, h)
		}
	}
	return all
}

// groupsOf returns the groups that the process is in by their controller, the one of version 2 by "".
func groupsOf(root string) map[string]string {
	groups := map[string]string{}
	text, _ := os.ReadFile(filepath.Join(root, "proc/self/cgroup"))
	for line := range strings.Lines(string(text)) {
		parts := strings.SplitN(strings.TrimSuffix(line, "\n"), ":", 3)
		if len(parts) == 3 {
			for controller := range strings.SplitSeq(parts[1], ",") {
				groups[controller] = parts[2]
			}
		}
	}
	return groups
}

// below returns the path of a group in a tree of which only the part below top is mounted, as in a container. A group that is
// not in that part, because it is told as it is seen from outside, is taken for the top of what is there.
func below(group, top string) string {
	if top == "/" {
		return group
	}
	if rest, ok := strings.CutPrefix(group, top); ok && (rest == "" || rest[0] == '/') {
		return rest
	}
	return "/"
}

func hasWord(list, word string) bool {
	for s := range strings.SplitSeq(list, ",") {
		if s == word {
			return true
		}
	}
	return false
}

// unescape undoes what mountinfo does to spaces and the like: \040.
func unescape(s string) string {
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] == '\\' && i+3 < len(s) {
			if c, err := strconv.ParseUint(s[i+1:i+4], 8, 8); err == nil {
				b.WriteByte(byte(c))
				i += 3
				continue
			}
		}
		b.WriteByte(s[i])
	}
	return b.String()
}

// readLimit returns the number in a file, 0 for "max", for none and where there is no such file.
func readLimit(path string) int64 {
	text, err := os.ReadFile(path)
	if err != nil {
		return 0
	}
	n, err := strconv.ParseInt(strings.TrimSpace(string(text)), 10, 64)
	if err != nil || n < 0 {
		return 0
	}
	return n
}
