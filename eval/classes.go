package eval

import "math"

// Classification says how a classifier does on texts whose classes are known.
type Classification struct {
	Texts       int     `json:"texts"`
	Share       float64 `json:"accuracy"`
	StdErr      StdErr  `json:"stderr"`
	Matthews    float64 `json:"matthews"`          // correlation of the right classes with those found, of any number of classes (Gorodkin's R_K)
	F1          float64 `json:"f1"`                // mean over the classes
	Loss        Loss    `json:"loss"`              // −log of the right class's probability
	Calibration float64 `json:"calibration_error"` // mean distance of the probability of the class found from how often it is right, in ten bins

	Classes   []Class `json:"classes"`
	Confusion [][]int `json:"confusion"` // [right class][class found]
}

// Class is how one class is found.
type Class struct {
	Label     string  `json:"label"`
	Texts     int     `json:"texts"`     // that are of it
	Found     int     `json:"found"`     // that were taken for it
	Precision float64 `json:"precision"` // of those found, 0 where there are none
	Recall    float64 `json:"recall"`    // of those there are
	F1        float64 `json:"f1"`
}

// calibrationBins is how many bins of probability are compared.
const calibrationBins = 10

// GradeClasses compares the probabilities of the classes, text by text, with the right ones. The first of several that are alike is
// the class found.
func GradeClasses(labels []string, probabilities [][]float32, right []int) *Classification {
	c := &Classification{Texts: len(right), Classes: make([]Class, len(labels)), Confusion: make([][]int, len(labels))}
	for k := range labels {
		c.Classes[k].Label, c.Confusion[k] = labels[k], make([]int, len(labels))
	}
	var hits int
	var loss float64
	var bins [calibrationBins]struct{ texts, right, sum float64 }
	for i, p := range probabilities {
		found := likeliest(p)
		c.Confusion[right[i]][found]++
		loss -= math.Log(max(float64(p[right[i]]), math.SmallestNonzeroFloat32))
		bin := &bins[min(int(p[found]*calibrationBins), calibrationBins-1)]
		bin.texts, bin.sum = bin.texts+1, bin.sum+float64(p[found])
		if found == right[i] {
			hits++
			bin.right++
		}
	}
	for _, b := range bins {
		c.Calibration += math.Abs(b.sum-b.right) / float64(len(right))
	}
	c.Share, c.StdErr = shareOf(hits, len(right))
	c.Loss = Loss(loss / float64(len(right)))
	c.count()
	return c
}

func likeliest(p []float32) (at int) {
	for i, v := range p {
		if v > p[at] {
			at = i
		}
	}
	return at
}

// count finds what follows from the table of confusions.
func (c *Classification) count() {
	n := float64(c.Texts)
	var hits, both, there, found float64 // Matthews: sums over the classes
	for k := range c.Classes {
		class := &c.Classes[k]
		for j := range c.Classes {
			class.Texts += c.Confusion[k][j]
			class.Found += c.Confusion[j][k]
		}
		hit := float64(c.Confusion[k][k])
		t, f := float64(class.Texts), float64(class.Found)
		hits, both, there, found = hits+hit, both+t*f, there+t*t, found+f*f
		class.Precision, class.Recall = share(hit, f), share(hit, t)
		class.F1 = share(2*hit, t+f)
		c.F1 += class.F1 / float64(len(c.Classes))
	}
	c.Matthews = share(hits*n-both, math.Sqrt((n*n-there)*(n*n-found)))
}

// share is a of b, 0 of none.
func share(a, b float64) float64 {
	if b == 0 {
		return 0
	}
	return a / b
}
