package convert

import (
	"fmt"
	"maps"
	"math"
	"slices"
)

// Report is what a conversion did. Its JSON form is what scripts read: fields may be
// added, these names stay.
type Report struct {
	From         string `json:"from"`
	FromFormat   Format `json:"from_format"`
	ToFormat     Format `json:"to_format"`
	File         string `json:"file"` // or folder
	Architecture string `json:"architecture"`

	Modules    int     `json:"modules"`    // of transformers, experts one by one
	Parameters int64   `json:"parameters"` // numbers in A, B and magnitudes
	RankMin    int     `json:"rank_min"`
	RankMax    int     `json:"rank_max"`
	ScaleMin   float64 `json:"scale_min"` // ΔW = scale·B·A
	ScaleMax   float64 `json:"scale_max"`
	Alpha      float64 `json:"alpha"` // of the file written; 0 in a GGUF is a scale of 1, and MLX has none

	Classifier string   `json:"classifier,omitempty"` // the file beside a GGUF
	Labels     []string `json:"labels,omitempty"`     // of the classes, where there is a classifier

	Reordered int      `json:"reordered"` // modules whose rows or columns lie in another order
	Divided   []string `json:"divided"`   // weights that became several
	Joined    []string `json:"joined"`    // weights that were made of several
	Folded    []Folded `json:"folded"`    // what one alpha or scale could not say
	Notes     []string `json:"notes"`     // for people
}

// Folded is a weight whose B was multiplied by a factor.
type Folded struct {
	Name   string  `json:"name"`
	Factor float64 `json:"factor"`
}

// maxNotes keeps a file of a thousand oddities from filling the screen.
const maxNotes = 8

func (r *Report) note(format string, args ...any) {
	switch n := len(r.Notes); {
	case n < maxNotes:
		r.Notes = append(r.Notes, fmt.Sprintf(format, args...))
	case n == maxNotes:
		r.Notes = append(r.Notes, "and more of these")
	}
}

// describe fills in what is the same in every format.
func (r *Report) describe(l *lora) {
	r.RankMin, r.ScaleMin = math.MaxInt, math.Inf(1)
	r.ScaleMax = math.Inf(-1)
	for _, name := range slices.Sorted(maps.Keys(l.pairs)) {
		p := l.pairs[name]
		r.Modules++
		r.Parameters += int64(p.a.rows)*int64(p.a.cols) + int64(p.b.rows)*int64(p.b.cols) + int64(p.magnitudes.rows)
		r.RankMin, r.RankMax = min(r.RankMin, p.rank()), max(r.RankMax, p.rank())
		r.ScaleMin, r.ScaleMax = min(r.ScaleMin, p.scale), max(r.ScaleMax, p.scale)
	}
}

func (r *Report) addMapped(c mappedPairs) {
	r.Reordered += c.reordered
	r.Divided = append(r.Divided, c.divided...)
	r.Joined = append(r.Joined, c.joined...)
}
