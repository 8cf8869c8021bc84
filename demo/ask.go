package demo

import (
	"context"
	"errors"
	"strings"

	"finetune/chat"
	"finetune/device"
	"finetune/eval"
	"finetune/model"
	"finetune/model/native"
)

// askCtx is the most tokens of a question, with what the template puts before it, and its answer.
const askCtx = 256

// prompt is what is asked, and the most tokens that an answer gets.
type prompt struct {
	text   string
	tokens int
}

// asker answers by greedy generation in llama.cpp.
type asker struct {
	model, adapter string // paths; no adapter = the base alone
	on             device.Placement
	threads        int
}

// ask opens the model and answers, each in a conversation of its own.
func (a asker) ask(ctx context.Context, prompts []prompt) (answers []string, err error) {
	base, err := model.Open(a.model)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, base.Close()) }()
	m, err := native.Load(base, a.on)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, m.Close()) }()
	e, err := eval.NewEvaluator(m, askCtx, a.threads)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, e.Close()) }()
	if a.adapter != "" {
		detach, err := e.Attach(a.adapter, 1)
		if err != nil {
			return nil, err
		}
		defer detach()
	}
	template, _ := m.ChatTemplate("")
	for _, p := range prompts {
		text, err := chat.Prompt(template, m.Vocab(), []chat.Message{{Role: "user", Content: p.text}})
		if err != nil {
			return nil, err
		}
		var answer strings.Builder
		if err := e.Generate(ctx, text, eval.Sampling{Tokens: p.tokens, TopP: 1}, func(s string) { answer.WriteString(s) }); err != nil {
			return nil, err
		}
		answers = append(answers, strings.TrimSpace(answer.String()))
	}
	return answers, nil
}
