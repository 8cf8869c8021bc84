package run

import (
	"fmt"
	"os"
	"path/filepath"

	"finetune/adapter"
	"finetune/classify"
	"finetune/imatrix"
	"finetune/internal/hint"
	"finetune/model"
)

// The files of a run directory.
const (
	ConfigFile     = "config.yaml"                  // every setting, effective
	AdapterFile    = "adapter.gguf"                 // the trained factors, once a run is done
	ModelFile      = "model.gguf"                   // with MethodFull the trained model, once a run is done
	ClassifierFile = classify.FileName              // with TaskClassify what makes scores of the adapted model's states, once a run is done
	ImatrixFile    = imatrix.FileName               // of an adapter's run: statistics of what the adapted weights read and of the loss's derivatives
	LogFile        = "log.jsonl"                    // one event a line
	EventsFile     = "events.out.tfevents.finetune" // the numbers of LogFile for TensorBoard, with Config.TensorBoard
	PreviewFile    = "preview.json"                 // the first documents as they are learned: []Document
	ExportsFile    = "exports.jsonl"                // what each export has measured, one result a line

	checkpointPrefix = "checkpoint-"
	checkpointSuffix = ".zst"
	lockFile         = ".lock"
)

// MethodFull trains every tensor of the base itself rather than an adapter. The base has to be F32, F16 or BF16.
const MethodFull = "full"

// ResultFile returns the name of the file in the run directory that a run ends with.
func (c Config) ResultFile() string {
	if c.Method == MethodFull {
		return ModelFile
	}
	return AdapterFile
}

// AdapterPath returns the file of an adapter that is given by its own path or by that of its run directory. A run that
// trained the model itself has none, which is an error with a hint.
func AdapterPath(path string) (string, error) {
	if info, err := os.Stat(path); err != nil || !info.IsDir() {
		return path, nil
	}
	if c, err := LoadSaved(path); err == nil && c.Method == MethodFull {
		return "", NoAdapter(path)
	}
	return filepath.Join(path, AdapterFile), nil
}

// IsRun reports whether a folder is the directory of a run that has begun: it holds settings and a log. A config.yaml alone
// may be one that somebody keeps for --config.
func IsRun(dir string) bool {
	if _, err := os.Stat(filepath.Join(dir, LogFile)); err != nil {
		return false
	}
	_, err := LoadSaved(dir)
	return err == nil
}

// NoAdapter returns the error that a run has no adapter because it trained the model itself.
func NoAdapter(dir string) error {
	return hint.With(fmt.Errorf("run directory %q: trained whole, there is no adapter", dir),
		fmt.Sprintf("%s is the trained model, a GGUF for any llama.cpp app", filepath.Join(dir, ModelFile)))
}

// CheckAdapter refuses an adapter, in a file or in a run directory, that does not fit a base. One that fits but was made
// for another base is an adapter.ErrOtherBase or ErrOtherWeights.
func CheckAdapter(path string, base *model.Base) error {
	file, err := AdapterPath(path)
	if err != nil {
		return err
	}
	a, err := adapter.Open(file)
	if err != nil {
		return err
	}
	defer a.Close()
	id, err := base.Identity()
	if err != nil {
		return err
	}
	return a.CheckBase(id)
}
