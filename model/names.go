package model

import (
	"cmp"
	"strconv"
	"strings"
)

// CompareNames orders the names of tensors: blk.2 before blk.10, and within a block by letters.
func CompareNames(a, b string) int {
	return cmp.Or(cmp.Compare(Block(a), Block(b)), cmp.Compare(a, b))
}

// Block returns N of "blk.N.…", and -1 for tensors outside of the blocks.
func Block(name string) int {
	rest, ok := strings.CutPrefix(name, "blk.")
	digits, _, dot := strings.Cut(rest, ".")
	n, err := strconv.ParseUint(digits, 10, 31)
	if !ok || !dot || err != nil {
		return -1
	}
	return int(n)
}
