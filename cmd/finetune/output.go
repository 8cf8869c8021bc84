package main

import (
	"path/filepath"

	"finetune/internal/output"
	"finetune/run"
)

// checkOut refuses an --out that is one of the inputs, that would put something into a
// run directory which is read, or that is there without --force. An input is a file, a
// folder, or a run directory or its adapter: of a run what it was trained on counts too.
func checkOut(out string, force bool, inputs ...string) error {
	return checkOutOf(out, false, force, inputs...)
}

// checkOutOf does what checkOut does for a result that may be a folder.
func checkOutOf(out string, folder, force bool, inputs ...string) error {
	t := output.Target{Path: out, Folder: folder, Force: force, Inputs: inputs}
	for _, input := range inputs {
		for _, dir := range []string{input, filepath.Dir(input)} {
			if input == "" || !run.IsRun(dir) {
				continue
			}
			c, err := run.LoadSaved(dir)
			if err != nil {
				return err
			}
			t.Runs = append(t.Runs, dir)
			t.Inputs = append(t.Inputs, c.Reads()...)
		}
	}
	return t.Check()
}
