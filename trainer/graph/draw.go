package graph

import "github.com/go-skynet/go-llama.cpp/ggml"

// draw chooses the tokens over which the gradients of a thin magnitude are formed, a part of each pass: of n strata of
// neighbouring tokens, one of each. So every token is as likely as another, and no period in the data can hide from it.
type draw struct {
	rows   ggml.Tensor   // I32 [n], the chosen rows of a batch; nil where all count
	by     int           // see Engine.SetDraw
	passes int           // since Reset
	chosen mirror[int32] // rows
}

// next chooses among the tokens of the next pass.
func (d *draw) next(b *bus, tokens int) {
	if d.rows.IsNil() {
		return
	}
	rows := d.chosen.data
	for k := range rows {
		from, to := k*tokens/len(rows), (k+1)*tokens/len(rows)
		rows[k] = int32(from) + int32(mixed(uint64(d.by)<<40^uint64(d.passes)<<20^uint64(k))%uint64(to-from))
	}
	d.passes++
	d.chosen.push(b)
}

// mixed is SplitMix64's output function (Steele, Lea and Flood, "Fast splittable pseudorandom number generators", 2014).
func mixed(x uint64) uint64 {
	x += 0x9e3779b97f4a7c15
	x = (x ^ x>>30) * 0xbf58476d1ce4e5b9
	x = (x ^ x>>27) * 0x94d049bb133111eb
	return x ^ x>>31
}
