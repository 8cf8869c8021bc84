package data

import (
	"context"

	"finetune/chat"
	"finetune/run"
)

// LoadRun reads the data of a run: what it trains on, and what it holds out, a file of its own or a fraction; val is nil
// for neither. template is the source of the model's chat templates, none if it has none. Errors are
// *fs.PathError, *FormatError (ErrEmpty, ErrNoTrained and chat.ErrNoTemplate are told apart by errors.Is) and
// *UnsupportedError, some with a hint. report is told how far it has come, some times a second, and may be nil. Cancelling ctx
// ends it with the context's error.
func LoadRun(ctx context.Context, c run.Config, tok chat.Tokenizer, template chat.Source, report func(Progress)) (train, val *Windows, err error) {
	o, err := optionsOf(c, tok, template)
	if err != nil {
		return nil, nil, err
	}
	o.watch = newWatch(ctx, report)
	if c.Val == "" {
		o.ValFraction = c.ValFraction
	}
	set, err := loadFile(c.Data, o)
	if err != nil {
		return nil, nil, err
	}
	if c.Val == "" {
		return set.Train, set.Val, settle(c, set.Train, set.Val)
	}
	if o.Classes != nil {
		o.Classes = &labels{c.LabelField, set.Train.Classes()}
	}
	held, err := loadFile(c.Val, o)
	if err != nil {
		return nil, nil, err
	}
	return set.Train, held.Train, settle(c, set.Train, held.Train)
}

// settle does what can be done only once all data is read: weights of classes, and the scale of relevances.
func settle(c run.Config, train, val *Windows) error {
	if err := weigh(c, train, val); err != nil {
		return err
	}
	return scaleRelevances(train, val)
}

// LoadClassified reads texts with labels to evaluate a classifier on whose classes have these labels; another label is an error.
// Each document of the windows ends with the number of its class as its target.
func LoadClassified(ctx context.Context, c run.Config, tok chat.Tokenizer, names []string, report func(Progress)) (*Windows, error) {
	o, err := optionsOf(c, tok, chat.Source{})
	if err != nil {
		return nil, err
	}
	o.watch = newWatch(ctx, report)
	o.Classes = &labels{c.LabelField, names}
	set, err := loadFile(c.Data, o)
	if err != nil {
		return nil, err
	}
	return set.Train, nil
}

// LoadPairs reads texts that belong together, to evaluate embeddings on.
func LoadPairs(ctx context.Context, c run.Config, tok chat.Tokenizer, report func(Progress)) (*Windows, error) {
	o, err := optionsOf(c, tok, chat.Source{})
	if err != nil {
		return nil, err
	}
	o.watch, o.Pairs = newWatch(ctx, report), true
	set, err := loadFile(c.Data, o)
	if err != nil {
		return nil, err
	}
	return set.Train, nil
}

// optionsOf are the options that a run's settings ask for.
func optionsOf(c run.Config, tok chat.Tokenizer, template chat.Source) (options, error) {
	o := options{NCtx: c.Ctx, Tokenizer: tok, Template: template, Seed: c.Seed, Now: c.Day(),
		Format: c.Format, Map: run.Lines(c.Map), OnLost: c.OnLost, SkipBad: c.SkipBad, Model: c.Model}
	switch c.Task {
	case run.TaskClassify:
		o.Classes = &labels{field: c.LabelField}
	case run.TaskEmbed:
		o.Pairs = true
	case run.TaskRerank:
		o.Ranks = &ranks{c.LabelField}
	}
	if c.LongRecords == "skip" {
		o.LongRecords = skipLong
	}
	var err error
	if o.Template, err = TemplateOf(c, template); err != nil {
		return o, err
	}
	o.Args, err = chat.ParseArgs(run.Lines(c.TemplateArg))
	return o, err
}

// TemplateOf returns the chat template that a run is given by its settings, or else the model's own.
func TemplateOf(c run.Config, own chat.Source) (chat.Source, error) {
	if c.Template == "" {
		return own, nil
	}
	return readTemplate(c.Template)
}

// readTemplate reads a chat template from a file of its own.
func readTemplate(path string) (chat.Source, error) {
	text, err := readText(path, nil)
	return chat.Source{Default: text, Path: path}, err
}

// LoadHeldOut reads what is to be evaluated by c: the part of Data that training holds out, or all of it where it holds
// nothing out.
func LoadHeldOut(ctx context.Context, c run.Config, tok chat.Tokenizer, template chat.Source, report func(Progress)) (*Windows, error) {
	train, val, err := LoadRun(ctx, c, tok, template, report)
	if val != nil {
		return val, err
	}
	return train, err
}
