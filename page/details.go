package page

import (
	"encoding/json"

	saved "finetune/run"
)

// details are what is known of a run apart from its log.
type details struct {
	Name     string            `json:"name"`
	Settings []saved.Setting   `json:"settings,omitempty"`
	Preview  []saved.Document  `json:"preview,omitempty"`
	Exports  []json.RawMessage `json:"exports,omitempty"`
	Result   int64             `json:"result"` // bytes of the file that the run has ended with, 0 = it has none yet
	Notes    []string          `json:"notes,omitempty"`
	NoChat   string            `json:"no_chat,omitempty"` // why there is no conversation
}

// detailsOf reads what there is. What cannot be read is a note.
func detailsOf(of run) *details {
	d := &details{Name: of.Name}
	note := func(err error) {
		if err != nil {
			d.Notes = append(d.Notes, err.Error())
		}
	}
	c, err := saved.LoadSaved(of.Dir)
	if err == nil {
		d.Settings, err = c.Settings()
	}
	if !of.live || saved.IsRun(of.Dir) { // one that has only begun has no settings yet
		note(err)
	}
	d.Preview, err = saved.Preview(of.Dir)
	note(err)
	d.Exports, err = saved.Exports(of.Dir)
	note(err)
	d.Result, _ = of.result()
	return d
}

// noChat says why nobody can talk to what a run has made, "" if somebody can.
func (h *Handler) noChat(of run) string {
	c, err := saved.LoadSaved(of.Dir)
	size, _ := of.result()
	switch {
	case of.live:
		return "While this process trains, its model is busy. finetune ui with the run directory talks to what it has made."
	case h.chat.open == nil:
		return "This page has no model to talk to."
	case err != nil || size == 0:
		return "The run has no result yet. A run that was interrupted goes on with finetune train --resume."
	case c.Task != "":
		return "The run has learned to tell classes or texts apart, not to write: finetune run and eval take its --task."
	case c.Method == saved.MethodFull:
		return "The run has trained the model itself: finetune chat --model with its model.gguf talks to it."
	}
	return ""
}
