package page

import (
	"bufio"
	"encoding/json"
	"errors"
	"io"
	"io/fs"
	"os"
)

// Limits of what is read of a log at once, in bytes.
const (
	mostChunk = 4 << 20
	mostLine  = 1 << 20 // a longer one is passed over
)

// chunk is what a part of log.jsonl tells. Rows of steps are columns, which are a tenth as long in JSON.
type chunk struct {
	Next  int64 `json:"next"`            // where the next chunk begins, in bytes
	Again bool  `json:"again,omitempty"` // the log is another than the one that was read so far: this is its beginning
	More  bool  `json:"more,omitempty"`  // there is more of it now

	Start      json.RawMessage   `json:"start,omitempty"` // the events as they stand, the last of each kind
	Done       json.RawMessage   `json:"done,omitempty"`
	Steps      columns           `json:"steps"`
	Evals      []evaluation      `json:"evals,omitempty"`
	Samples    []json.RawMessage `json:"samples,omitempty"`
	Checkpoint int               `json:"checkpoint,omitempty"` // step of the last one
	Left       float64           `json:"left,omitempty"`       // seconds, by the last step
	Total      int               `json:"total,omitempty"`      // steps of the whole run, likewise
}

// columns are the numbers of steps; null is what was no number, or is not in the log.
type columns struct {
	Step   []int      `json:"step"`
	Loss   []*float64 `json:"loss"`
	LR     []*float64 `json:"lr"`
	Norm   []*float64 `json:"norm"`   // of the gradients, before clipping
	Rate   []*float64 `json:"rate"`   // trained tokens a second, mean so far
	Raw    []*float64 `json:"raw"`    // all tokens a second, likewise
	Memory []*float64 `json:"memory"` // bytes at most so far
}

type evaluation struct {
	Step    int      `json:"step"`
	Loss    *float64 `json:"loss"`
	Initial bool     `json:"initial,omitempty"`
}

// logged is what of a line is looked at.
type logged struct {
	Event   string
	Step    int
	Loss    *float64
	LR      *float64 `json:"lr"`
	Norm    *float64 `json:"grad_norm"`
	Rate    *float64 `json:"tokens_per_second"`
	Raw     *float64 `json:"raw_tokens_per_second"`
	Memory  *float64 `json:"memory_bytes"`
	Left    float64  `json:"seconds_left"`
	Total   int      `json:"total_steps"`
	Initial bool
}

// readLog reads whole lines of a log from a byte on, about most bytes of them. Where no line begins at that byte the log was
// written anew, when its run was resumed, and is read from the beginning. A log that is not there yet is empty.
func readLog(path string, from int64, most int) (*chunk, error) {
	c := &chunk{}
	f, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		c.Again = from > 0
		return c, nil
	}
	if err != nil {
		return nil, err
	}
	defer f.Close()
	if c.Again = !beginsLine(f, from); c.Again {
		from = 0
	}
	if _, err := f.Seek(from, io.SeekStart); err != nil {
		return nil, err
	}
	c.Next = from
	in := bufio.NewReaderSize(f, mostLine)
	for read := 0; ; {
		line, whole, err := nextLine(in)
		if err == io.EOF { // what is there of a last line is being written
			return c, nil
		}
		if err != nil {
			return nil, err
		}
		if whole {
			c.add(line)
		}
		c.Next, read = c.Next+int64(len(line)), read+len(line)
		if !whole {
			n, err := skipLine(in)
			c.Next += n
			if err != nil {
				return c, nil
			}
		}
		if read >= most {
			c.More = true
			return c, nil
		}
	}
}

// beginsLine reports whether a line begins at a byte of a file.
func beginsLine(f *os.File, at int64) bool {
	if at == 0 {
		return true
	}
	var before [1]byte
	_, err := f.ReadAt(before[:], at-1)
	return err == nil && before[0] == '\n'
}

// nextLine returns the next line with its end; of one that is longer than mostLine the beginning, which is not whole.
func nextLine(in *bufio.Reader) (line []byte, whole bool, err error) {
	line, err = in.ReadSlice('\n')
	if errors.Is(err, bufio.ErrBufferFull) {
		return line, false, nil
	}
	return line, true, err
}

// skipLine passes over the rest of a line and returns its bytes.
func skipLine(in *bufio.Reader) (n int64, err error) {
	for {
		part, err := in.ReadSlice('\n')
		n += int64(len(part))
		if !errors.Is(err, bufio.ErrBufferFull) {
			return n, err
		}
	}
}

// add takes what a line tells. One that is no event tells nothing.
func (c *chunk) add(line []byte) {
	var e logged
	if json.Unmarshal(line, &e) != nil {
		return
	}
	whole := func() json.RawMessage { return append(json.RawMessage{}, line...) }
	switch e.Event {
	case "start":
		c.Start, c.Done = whole(), nil
	case "done":
		c.Done = whole()
	case "samples":
		c.Samples = append(c.Samples, whole())
	case "eval":
		c.Evals = append(c.Evals, evaluation{e.Step, e.Loss, e.Initial})
	case "checkpoint":
		c.Checkpoint = e.Step
	case "step":
		s := &c.Steps
		s.Step = append(s.Step, e.Step)
		s.Loss, s.LR, s.Norm = append(s.Loss, e.Loss), append(s.LR, e.LR), append(s.Norm, e.Norm)
		s.Rate, s.Raw, s.Memory = append(s.Rate, e.Rate), append(s.Raw, e.Raw), append(s.Memory, e.Memory)
		c.Left, c.Total = e.Left, e.Total
	}
}
