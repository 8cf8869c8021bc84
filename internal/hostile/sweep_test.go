//go:build unix && cgo

package hostile

import (
	"bytes"
	"encoding/binary"
	"flag"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"strconv"
	"testing"

	"finetune/gguf"
	"finetune/internal/need"
)

// TestEveryNumberOfEveryHeader sets each number in the header of a model of each architecture to each of some values, one at a
// time, and loads them as TestModelsInOneProcess does: a sweep, where that draws. Without -sweep it is some of them.
func TestEveryNumberOfEveryHeader(t *testing.T) {
	need.Long(t, "hundreds of models")
	c := newModels(t)
	all := len(sweepOf(c))
	n, stride := all, 1
	if !*sweep {
		n = min(*batch, all)
		stride = all / n
	}
	t.Logf("%d of %d models", n, all)
	loadInProcesses(t, c, 0, n, "-stride", strconv.Itoa(stride))
}

// stride is set for the process that loads: which models of the sweep it takes; 0 draws instead.
var stride = flag.Int("stride", 0, "for processes that the tests start")

// swept is a model with one value of its header changed.
type swept struct {
	model, what string
	make        func() []byte
}

func sweepOf(c *corpus) (all []swept) {
	for _, m := range c.models {
		b, err := os.ReadFile(filepath.Join(c.dir, m))
		if err != nil {
			panic(err)
		}
		for i, k := range parse(b).keys {
			for _, v := range sweepValues(k) {
				all = append(all, swept{m, fmt.Sprintf("%s: %s = %.20x", m, k.name, v), func() []byte {
					f := parse(b)
					f.keys[i].value = v
					return f.encode()
				}})
			}
		}
	}
	return all
}

// sweepValues are what the value of a key is set to: nothing for texts, numbers for a number, for an array of numbers other
// lengths and the same number everywhere.
func sweepValues(k rawKey) (values [][]byte) {
	if k.kind != gguf.KindArray {
		return sweepNumbers(k.kind)
	}
	c := &cursor{b: k.value}
	of, n := gguf.Kind(c.u32()), int(c.u64())
	width := widths[of]
	if width == 0 {
		return nil
	}
	for _, v := range sweepNumbers(of) {
		values = append(values, array(of, n, bytes.Repeat(v, n)))
	}
	for _, m := range []int{0, 1, n - 1} {
		if m >= 0 && m < n {
			values = append(values, array(of, m, c.b[c.at:c.at+m*width]))
		}
	}
	return append(values, array(of, n+1, append(bytes.Clone(c.b[c.at:]), make([]byte, width)...)))
}

func sweepNumbers(kind gguf.Kind) (values [][]byte) {
	le := binary.LittleEndian
	switch kind {
	case gguf.KindFloat32:
		for _, x := range []float64{0, -1, 1e-45, 3e38, math.Inf(1), math.Inf(-1), math.NaN()} {
			values = append(values, le.AppendUint32(nil, math.Float32bits(float32(x))))
		}
	case gguf.KindBool:
		values = [][]byte{{0}, {1}, {2}}
	case gguf.KindUint32, gguf.KindInt32, gguf.KindUint64, gguf.KindInt64, gguf.KindUint16, gguf.KindInt16, gguf.KindUint8, gguf.KindInt8:
		for _, n := range []uint64{0, 1, 2, 3, 5, 1000, 1 << 31, 1<<32 - 1} {
			values = append(values, le.AppendUint64(nil, n)[:widths[kind]])
		}
	}
	return values
}
