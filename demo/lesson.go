package demo

import (
	_ "embed"

	"finetune/run"
)

// lesson is what a base is taught, with which settings, and what it is asked before and after.
type lesson struct {
	files     []file
	heldOut   []example
	questions []question // that have nothing to do with the task

	ctx, steps, rank int
	rate             run.Rate
}

// file is one that a demo writes.
type file struct {
	name    string
	content []byte
}

var (
	// base is the embedded model; base.md says what it is and how it was made.
	//go:embed base.gguf
	base []byte
	// chats are everyday questions with plain answers.
	//go:embed chats.jsonl
	chats []byte
)

// forChatModels is what a real chat model learns: the form, in which the words are to be right, whatever they are. Chats go
// with it, so that it learns when the form is wanted, and not that everything is to be answered in it.
func forChatModels() lesson {
	train, asked := manySentences()
	return lesson{
		files:     []file{{TaskFile, records(train)}, {ChatsFile, chats}},
		heldOut:   asked,
		questions: questions,
		ctx:       128,
		steps:     32,
		rank:      16,
		rate:      run.Usual,
	}
}

// forTheEmbedded is what 4 million parameters learn in a minute: the same form, with names and things from short lists. A model
// of that size chooses from what it has seen; it does not spell what it has not.
func forTheEmbedded() lesson {
	train, asked := fewSentences()
	return lesson{
		files:   []file{{TaskFile, records(train)}},
		heldOut: asked,
		ctx:     128,
		steps:   300,
		rank:    32,
		rate:    4e-3,
	}
}

// Most tokens of an answer: more than the form takes, of which the small vocabulary of the embedded base makes some 36, and some
// sentences of talk.
const (
	formTokens = 48
	talkTokens = 40
)

// prompts are the held-out sentences, then the questions.
func (l lesson) prompts() (all []prompt) {
	for _, x := range l.heldOut {
		all = append(all, prompt{x.sentence, formTokens})
	}
	for _, q := range l.questions {
		all = append(all, prompt{q.text, talkTokens})
	}
	return all
}
