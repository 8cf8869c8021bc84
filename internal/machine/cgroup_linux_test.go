package machine

import (
	"os"
	"path/filepath"
	"testing"
)

// tree writes files below a folder that stands for /.
func tree(t *testing.T, files map[string]string) string {
	t.Helper()
	root := t.TempDir()
	for name, text := range files {
		path := filepath.Join(root, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o777); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o666); err != nil {
			t.Fatal(err)
		}
	}
	return root
}

func TestGroupLimit(t *testing.T) {
	const (
		v2    = "25 20 0:22 / /sys/fs/cgroup rw,nosuid - cgroup2 cgroup2 rw,nsdelegate\n"
		v1    = "31 23 0:28 / /sys/fs/cgroup rw - tmpfs tmpfs rw\n33 31 0:30 / /sys/fs/cgroup/cpu rw - cgroup cgroup rw,cpu\n35 31 0:32 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n"
		none  = "9223372036854771712\n" // of version 1, without a limit
		limit = 64 << 20
	)
	for _, tt := range []struct {
		name  string
		files map[string]string
		want  int64
	}{
		{"nothing", nil, 0},
		{"version 2", map[string]string{"proc/self/cgroup": "0::/user.slice/run.scope\n", "proc/self/mountinfo": v2,
			"sys/fs/cgroup/user.slice/run.scope/memory.max": "67108864\n", "sys/fs/cgroup/user.slice/memory.max": "max\n"}, limit},
		{"of the group above", map[string]string{"proc/self/cgroup": "0::/user.slice/run.scope\n", "proc/self/mountinfo": v2,
			"sys/fs/cgroup/user.slice/run.scope/memory.max": "max\n", "sys/fs/cgroup/user.slice/memory.max": "67108864\n"}, limit},
		{"the least", map[string]string{"proc/self/cgroup": "0::/a/b\n", "proc/self/mountinfo": v2,
			"sys/fs/cgroup/a/b/memory.max": "134217728\n", "sys/fs/cgroup/a/memory.max": "67108864\n"}, limit},
		{"throttled", map[string]string{"proc/self/cgroup": "0::/a\n", "proc/self/mountinfo": v2,
			"sys/fs/cgroup/a/memory.max": "max\n", "sys/fs/cgroup/a/memory.high": "67108864\n"}, limit},
		{"no limit", map[string]string{"proc/self/cgroup": "0::/a\n", "proc/self/mountinfo": v2,
			"sys/fs/cgroup/a/memory.max": "max\n", "sys/fs/cgroup/a/memory.high": "max\n"}, 0},
		{"another process's", map[string]string{"proc/self/cgroup": "0::/a\n", "proc/self/mountinfo": v2,
			"sys/fs/cgroup/b/memory.max": "67108864\n"}, 0},
		{"a container's own tree", map[string]string{"proc/self/cgroup": "0::/\n", "proc/self/mountinfo": v2,
			"sys/fs/cgroup/memory.max": "67108864\n"}, limit},
		{"version 1", map[string]string{"proc/self/cgroup": "4:memory:/docker/1f\n1:cpu:/x\n0::/\n", "proc/self/mountinfo": v1,
			"sys/fs/cgroup/memory/docker/1f/memory.limit_in_bytes": "67108864\n", "sys/fs/cgroup/memory/memory.limit_in_bytes": none}, limit},
		{"version 1, joined controllers", map[string]string{"proc/self/cgroup": "4:cpu,memory:/a\n",
			"proc/self/mountinfo":                              "35 31 0:32 / /sys/fs/cgroup/cpu,memory rw - cgroup cgroup rw,cpu,memory\n",
			"sys/fs/cgroup/cpu,memory/a/memory.limit_in_bytes": "67108864\n"}, limit},
		{"version 1, seen from outside", map[string]string{"proc/self/cgroup": "4:memory:/docker/1f\n",
			"proc/self/mountinfo":                        "35 31 0:32 /docker/1f /sys/fs/cgroup/memory ro - cgroup cgroup rw,memory\n",
			"sys/fs/cgroup/memory/memory.limit_in_bytes": "67108864\n"}, limit},
		{"a group outside of what is mounted", map[string]string{"proc/self/cgroup": "4:memory:/other\n",
			"proc/self/mountinfo":                        "35 31 0:32 /docker/1f /sys/fs/cgroup/memory ro - cgroup cgroup rw,memory\n",
			"sys/fs/cgroup/memory/memory.limit_in_bytes": "67108864\n"}, limit},
		{"both versions", map[string]string{"proc/self/cgroup": "4:memory:/a\n0::/b\n",
			"proc/self/mountinfo":                          v1 + "41 31 0:38 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n",
			"sys/fs/cgroup/memory/a/memory.limit_in_bytes": "134217728\n", "sys/fs/cgroup/unified/b/memory.max": "67108864\n"}, limit},
		{"a mount with a space", map[string]string{"proc/self/cgroup": "0::/\n",
			"proc/self/mountinfo": `25 20 0:22 / /mnt/my\040groups rw - cgroup2 cgroup2 rw` + "\n", "mnt/my groups/memory.max": "67108864\n"}, limit},
		{"no numbers", map[string]string{"proc/self/cgroup": "0::/\nx\n:::::\n", "proc/self/mountinfo": "1 2\n - \n" + v2,
			"sys/fs/cgroup/memory.max": "-1\n", "sys/fs/cgroup/memory.high": "many\n"}, 0},
	} {
		if got := groupLimit(tree(t, tt.files)); got != tt.want {
			t.Errorf("%s: limit %d, want %d", tt.name, got, tt.want)
		}
	}
}
