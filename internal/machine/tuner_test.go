package machine

import (
	"testing"
	"time"
)

// computer is a computer with free cores of which another program takes a share: n threads wait for the slowest one.
type computer struct {
	cores      int
	taken      float64 // of one core
	wall, busy time.Duration
}

func (m *computer) clock() (wall, busy time.Duration) { return m.wall, m.busy }

// step takes one second of one free thread.
func (m *computer) step(threads int) error {
	each := 1 / float64(threads)
	slowest := each
	if threads == m.cores && m.taken > 0 {
		slowest = each / (1 - m.taken) * 1.3 // and the barriers cost more than the share
	}
	m.wall += time.Duration(slowest * float64(time.Second))
	lost := 0.0
	if threads == m.cores {
		lost = m.taken
	}
	m.busy += time.Duration(slowest * (float64(threads) - lost) * float64(time.Second))
	return nil
}

// steps returns how often each number of threads was used in n steps.
func (m *computer) steps(p *ThreadTuner, n int) map[int]int {
	used := map[int]int{}
	for range n {
		p.Do(1, func(threads int) error {
			used[threads]++
			return m.step(threads)
		})
	}
	return used
}

func TestThreadTunerFollowsTheMachine(t *testing.T) {
	for _, cores := range []int{2, 4, 8} {
		m := &computer{cores: cores}
		p := NewThreadTuner(cores)
		p.clock = m.clock
		if used := m.steps(p, 200); used[cores] != 200 {
			t.Errorf("%d cores, free: threads used %v, want all always", cores, used)
		}
		m.taken = 0.5
		if used := m.steps(p, 200); used[cores-1] < 150 {
			t.Errorf("%d cores, one half taken: threads used %v, want mostly one less", cores, used)
		}
		m.taken = 0
		if used := m.steps(p, 200); used[cores] < 120 {
			t.Errorf("%d cores, free again: threads used %v, want mostly all", cores, used)
		}
	}
}

// Where fewer threads are not faster, they are tried and left.
func TestThreadTunerKeepsWhatIsFaster(t *testing.T) {
	m := &computer{cores: 8}
	p := NewThreadTuner(8)
	p.clock = func() (wall, busy time.Duration) { return m.wall, m.busy / 2 } // the other half waits for the memory
	if used := m.steps(p, 400); used[8] < 350 || used[8] == 400 {
		t.Errorf("threads used %v, want mostly all and now and then fewer", used)
	}
}

func TestThreadTunerWithoutAClock(t *testing.T) {
	m := &computer{cores: 2, taken: 0.5}
	p := NewThreadTuner(2)
	p.clock = func() (wall, busy time.Duration) { return m.wall, -1 }
	if used := m.steps(p, 50); used[2] != 50 {
		t.Errorf("threads used %v, want all", used)
	}
}
