package export

import (
	"context"
	"fmt"
	"path/filepath"
	"strconv"

	"finetune/adapter"
	"finetune/eval"
	"finetune/internal/hint"
	"finetune/internal/output"
	"finetune/internal/setting"
	"finetune/run"
	"finetune/trainer"
)

// ofText reports whether the run learned text, whose loss llama.cpp finds. That of another task is the training engine's.
func (x *exporter) ofText() bool { return x.run.Task == "" }

// checkTask refuses what is not done for a task, and to replace a classifier unasked.
func (x *exporter) checkTask() error {
	if x.ofText() {
		return nil
	}
	if x.Mode == ModeHeal {
		return hint.With(&setting.Error{Key: "mode", Want: fmt.Sprintf("project or exact after a run with the task %s, healing is for text", x.run.Task), Got: strconv.Quote(x.Mode)},
			"more --rank keeps more")
	}
	if x.run.Task == run.TaskEmbed {
		return nil
	}
	return output.Target{Path: x.classifierPath(), Force: x.Force, Runs: []string{x.Config.Run}}.Check()
}

func (x *exporter) classifierPath() string {
	return filepath.Join(filepath.Dir(x.Out), run.ClassifierFile)
}

// openTask reads what the run has learned beside its adapter.
func (x *exporter) openTask() (err error) {
	x.task, err = trainer.TaskOf(x.Config.Run, x.run, x.base, x.model.NEmbd(), x.train.Classes())
	return err
}

// lossOfBase returns the loss without the adapter; of a task with the classifier that was trained beside it.
func (x *exporter) lossOfBase(ctx context.Context) (eval.Loss, error) {
	if x.ofText() {
		return x.eval.Loss(ctx, x.val, nil)
	}
	return x.lossByEngine(ctx, &adapter.Adapter{})
}

// writeClassifier copies the run's classifier to where it is looked for beside an adapter.
func (x *exporter) writeClassifier() error {
	if x.task.Head == nil {
		return nil
	}
	x.result.Classifier = x.classifierPath()
	return x.task.Head.Save(x.classifierPath())
}
