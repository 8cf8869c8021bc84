package machine

import (
	"math"
	"time"
)

// ThreadTuner chooses with how many threads to compute. ggml's threads wait for one another after every operation, spinning: where
// another program takes a core for a part of the time, the thread on it holds up all others, and fewer threads are faster.
// It shows as processor time that the threads wanted and did not get. Then fewer are tried, and kept if they are faster;
// and from time to time one more. On a machine that is free nothing is ever tried. The work has to be of a kind whose
// result does not depend on the number.
//
// One goroutine at a time.
type ThreadTuner struct {
	limit int             // threads that were asked for
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

// NewThreadTuner starts with all threads.
func NewThreadTuner(threads int) *ThreadTuner {
	start := time.Now()
	clock := func() (wall, busy time.Duration) { return time.Since(start), ProcessorTime() }
	return &ThreadTuner{limit: threads, kept: threads, now: threads, speed: map[int]float64{}, clock: clock}
}

// Do has a piece of work done with as many threads as are worth it, and learns from how long it takes.
func (t *ThreadTuner) Do(work int, with func(threads int) error) error {
	if t.limit == 1 {
		return with(1)
	}
	wall, busy := t.clock()
	err := with(t.now)
	endWall, endBusy := t.clock()
	if busy < 0 {
		return err
	}
	t.work += float64(work)
	t.wall += endWall - wall
	t.busy += endBusy - busy
	if t.wall >= leastJudged {
		t.judge()
		t.work, t.wall, t.busy = 0, 0, 0
	}
	return err
}

// judge decides with how many threads to go on.
func (t *ThreadTuner) judge() {
	lost := float64(t.now) - t.busy.Seconds()/t.wall.Seconds()
	t.speed[t.now] = t.work / t.wall.Seconds()
	if t.now != t.kept { // a trial
		if t.speed[t.now] > worthIt*t.speed[t.kept] {
			t.kept = t.now
		}
		t.now, t.rest = t.kept, trialPause
		return
	}
	if t.rest > 0 {
		t.rest--
		return
	}
	switch {
	case lost > lostCores && t.now > 1:
		t.now = max(1, t.now-int(math.Ceil(lost-lostCores)))
	case t.now < t.limit:
		t.now++
	}
}
