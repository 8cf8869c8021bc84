// Package run is what a training run was asked for and what it is on disk: its settings ([Config], as YAML, from defaults,
// a file and flags), which of them decide what is learned, and the run directory ([Dir]) with the names of its files.
//
//	c := run.DefaultConfig()
//	c.Model, c.Data, c.Out = "base.gguf", "train.jsonl", "run"
//	err := c.Validate() // and c.Save, LoadConfig; a run that was made: LoadSaved("run")
//
// A setting that cannot be is a *setting.Error, which names it, what is wanted and what was given. The package trains
// nothing, see trainer, and needs no native code.
package run
