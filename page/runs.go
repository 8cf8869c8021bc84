package page

import (
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	saved "finetune/run"
)

// run is a run directory under the number that requests name it by.
type run struct {
	ID   int
	Name string // as it is shown
	Dir  string
	live bool
}

func (r run) logFile() string { return filepath.Join(r.Dir, saved.LogFile) }

// result returns size and age of the file that the run has ended with; 0 where there is none.
func (r run) result() (size int64, changed time.Time) {
	c, err := saved.LoadSaved(r.Dir)
	if err != nil {
		return 0, changed
	}
	info, err := os.Stat(filepath.Join(r.Dir, c.ResultFile()))
	if err != nil || !info.Mode().IsRegular() {
		return 0, changed
	}
	return info.Size(), info.ModTime()
}

// runs are those that a page shows. A number once given stays: requests name no path, and what is not in the list is not read.
type runs struct {
	folders []string

	mu  sync.Mutex
	all []run
}

func newRuns(folders []string, live *Live) *runs {
	r := &runs{folders: folders}
	if live != nil {
		r.all = append(r.all, run{Name: nameOf(live.dir), Dir: live.dir, live: true})
	}
	return r
}

// Find returns the run directories among folders and in them.
func Find(folders []string) (dirs []string) {
	for _, r := range newRuns(folders, nil).list() {
		dirs = append(dirs, r.Dir)
	}
	return dirs
}

// nameOf returns what a folder is called, also where it is given as "." or "..".
func nameOf(dir string) string {
	if whole, err := filepath.Abs(dir); err == nil {
		dir = whole
	}
	return filepath.Base(dir)
}

// look adds what has come into the folders. A folder that is gone or cannot be read has nothing new.
func (r *runs) look() {
	for _, folder := range r.folders {
		if saved.IsRun(folder) {
			r.add(nameOf(folder), folder)
			continue
		}
		entries, _ := os.ReadDir(folder)
		for _, e := range entries {
			if dir := filepath.Join(folder, e.Name()); !r.has(dir) && saved.IsRun(dir) {
				r.add(e.Name(), dir)
			}
		}
	}
}

func (r *runs) has(dir string) bool {
	return slices.ContainsFunc(r.all, func(known run) bool { return known.Dir == dir })
}

func (r *runs) add(name, dir string) {
	if !r.has(dir) {
		r.all = append(r.all, run{ID: len(r.all), Name: name, Dir: dir})
	}
}

// list returns the runs that there are by now.
func (r *runs) list() []run {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.look()
	return slices.Clone(r.all)
}

// at returns the run of a number.
func (r *runs) at(n int) (run, bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if n < 0 || n >= len(r.all) {
		return run{}, false
	}
	return r.all[n], true
}

// runState is how a page knows whether there is something new of a run.
type runState struct {
	ID      int    `json:"id"`
	Name    string `json:"name"`
	Bytes   int64  `json:"bytes"`   // of the log
	Changed int64  `json:"changed"` // the log, in Unix milliseconds; 0 = there is none yet
	Age     int64  `json:"age"`     // of that, in milliseconds, by this machine's clock
	Exports int64  `json:"exports"` // bytes of what is noted of exports
}

func (r *runs) states() []runState {
	all := []runState{}
	for _, one := range r.list() {
		s := runState{ID: one.ID, Name: one.Name}
		if info, err := os.Stat(one.logFile()); err == nil {
			s.Bytes, s.Changed, s.Age = info.Size(), info.ModTime().UnixMilli(), time.Since(info.ModTime()).Milliseconds()
		}
		if info, err := os.Stat(filepath.Join(one.Dir, saved.ExportsFile)); err == nil {
			s.Exports = info.Size()
		}
		all = append(all, s)
	}
	return all
}
