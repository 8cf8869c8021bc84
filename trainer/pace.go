package trainer

import (
	"math"
	"time"
)

// pace chooses with how many threads to compute. ggml's threads wait for one another after every operation, spinning: where
// another program takes a core for a part of the time, the thread on it holds up all others, and fewer threads are faster.
// It shows as processor time that the threads wanted and did not get. Then fewer are tried, and kept if they are faster;
// and from time to time one more. On a machine that is free nothing is ever tried. No result depends on the number.
//
// One goroutine at a time.
type pace struct {
	most  int             // threads that were asked for
	kept  int             // the best number as far as is known
	now   int             // the number in use: kept, or one on trial
	speed map[int]float64 // by number: work a second, when it was last judged
	rest  int             // judgements until the next trial

	work       float64 // done since the last judgement, in any unit
	wall, busy time.Duration
	clock      func() (wall, busy time.Duration) // time, and the processor time of the process; busy < 0 where it is not known
}

const (
	// leastJudged is what a judgement goes by at least: a turn of a scheduler takes some milliseconds.
	leastJudged = 300 * time.Millisecond
	// lostCores is the processor time a second that has to be missing before fewer threads are tried. A program that runs on
	// one of the cores takes half of it; Go's collector far less.
	lostCores = 0.3
	// worthIt is how much faster another number has to be.
	worthIt = 1.05
	// trialPause is how many judgements pass between two trials.
	trialPause = 15
)

// newPace starts with all threads.
func newPace(threads int) *pace {
	start := time.Now()
	clock := func() (wall, busy time.Duration) { return time.Since(start), processorTime() }
	return &pace{most: threads, kept: threads, now: threads, speed: map[int]float64{}, clock: clock}
}

// do has a piece of work done with as many threads as are worth it, and learns from how long it takes.
func (p *pace) do(work int, with func(threads int) error) error {
	if p.most == 1 {
		return with(1)
	}
	wall, busy := p.clock()
	err := with(p.now)
	endWall, endBusy := p.clock()
	if busy < 0 {
		return err
	}
	p.work += float64(work)
	p.wall += endWall - wall
	p.busy += endBusy - busy
	if p.wall >= leastJudged {
		p.judge()
		p.work, p.wall, p.busy = 0, 0, 0
	}
	return err
}

// judge decides with how many threads to go on.
func (p *pace) judge() {
	lost := float64(p.now) - p.busy.Seconds()/p.wall.Seconds()
	p.speed[p.now] = p.work / p.wall.Seconds()
	if p.now != p.kept { // a trial
		if p.speed[p.now] > worthIt*p.speed[p.kept] {
			p.kept = p.now
		}
		p.now, p.rest = p.kept, trialPause
		return
	}
	if p.rest > 0 {
		p.rest--
		return
	}
	switch {
	case lost > lostCores && p.now > 1:
		p.now = max(1, p.now-int(math.Ceil(lost-lostCores)))
	case p.now < p.most:
		p.now++
	}
}
