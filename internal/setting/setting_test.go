package setting

import "testing"

func TestParseBytes(t *testing.T) {
	for _, tt := range []struct {
		in   string
		want int64 // 0 = an error
	}{
		{"1B", 1}, {"4GiB", 4 << 30}, {"4gib", 4 << 30}, {"1.5 MiB", 3 << 19}, {"800MB", 800e6}, {"2TB", 2e12},
		{"", 0}, {"4", 0}, {"GiB", 0}, {"4G", 0}, {"4 GiB more", 0}, {"-1GiB", 0}, {"0GiB", 0}, {"NaNGiB", 0}, {"InfB", 0}, {"1e30TiB", 0},
	} {
		got, err := ParseBytes(tt.in)
		if got != tt.want || (err != nil) != (tt.want == 0) {
			t.Errorf("ParseBytes(%q) = %d, %v, want %d", tt.in, got, err, tt.want)
		}
	}
}
