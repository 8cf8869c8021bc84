package main

import (
	"math"
	"strings"

	"github.com/mattn/go-runewidth"
	"github.com/vbauerster/mpb/v8"
	"github.com/vbauerster/mpb/v8/decor"
)

// fit cuts a text to so many columns of a terminal, in which some characters take two.
func fit(text string, columns int) string { return runewidth.Truncate(text, max(0, columns), "…") }

// barStyle is how progress is drawn.
var barStyle = mpb.BarStyle().Lbound("").Rbound("").Filler("━").Tip("━").Padding("─")

// bar draws how far something has come, over so many columns.
func bar(done, of int64, columns int) string {
	var text strings.Builder
	stat := decor.Statistics{AvailableWidth: columns, Total: max(1, of), Current: min(max(0, done), max(1, of))}
	if barStyle.Build().Fill(&text, stat) != nil {
		return ""
	}
	return text.String()
}

// The bar of a progress of one row takes what the text leaves of it, if that is enough to see something move.
const (
	leastBar = 8
	mostBar  = 40
)

// barRow is a row that says how far something has come, with a bar where it is known of how much: of > 0.
func barRow(text string, done, of int64, columns int) string {
	text = fit(text, columns)
	room := min(columns-runewidth.StringWidth(text)-2, mostBar)
	if of <= 0 || room < leastBar {
		return text
	}
	return text + "  " + bar(done, of, room)
}

// mostPoints is how many points a curve keeps: several for each column of a wide terminal.
const mostPoints = 1024

// curve keeps numbers that come one after the other, any number of them, in few points: each is the mean of per neighbours,
// of twice as many when there are too many points.
type curve struct {
	points []float64
	per    int
	sum    float64 // of the n numbers that make no point yet
	n      int
}

// add appends a number. What is none, NaN or infinite, is left out.
func (c *curve) add(v float64) {
	if math.IsNaN(v) || math.IsInf(v, 0) {
		return
	}
	c.sum, c.n = c.sum+v, c.n+1
	if c.per = max(1, c.per); c.n < c.per {
		return
	}
	c.points = append(c.points, c.sum/float64(c.n))
	c.sum, c.n = 0, 0
	if len(c.points) == mostPoints {
		for i := range mostPoints / 2 {
			c.points[i] = (c.points[2*i] + c.points[2*i+1]) / 2
		}
		c.points, c.per = c.points[:mostPoints/2], 2*c.per
	}
}

// sparks are the heights that a curve is drawn with.
var sparks = []rune("▁▂▃▄▅▆▇█")

// spark draws the curve over at most so many columns, its lowest value lowest and its highest highest.
func (c *curve) spark(columns int) string {
	points := c.points
	if c.n > 0 {
		points = append(points[:len(points):len(points)], c.sum/float64(c.n))
	}
	heights := make([]float64, min(len(points), max(0, columns)))
	low, high := math.Inf(1), math.Inf(-1)
	for i := range heights {
		from, to := i*len(points)/len(heights), (i+1)*len(points)/len(heights)
		heights[i] = mean(points[from:to])
		low, high = min(low, heights[i]), max(high, heights[i])
	}
	text := make([]rune, len(heights))
	for i, h := range heights {
		text[i] = sparks[0]
		if high > low {
			text[i] = sparks[int(math.Round((h-low)/(high-low)*float64(len(sparks)-1)))]
		}
	}
	return string(text)
}

func mean(values []float64) float64 {
	sum := 0.0
	for _, v := range values {
		sum += v
	}
	return sum / float64(len(values))
}
