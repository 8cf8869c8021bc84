package trainer

import (
	"fmt"
	"strings"

	"finetune/run"
	"finetune/trainer/data"

	"github.com/go-skynet/go-llama.cpp/llama"
)

// What a run keeps of its data to show what is learned of it.
const (
	previewDocuments = 3
	previewTokens    = 1024 // of each
)

// preview returns the first documents of the training data as they are learned.
func (l *loop) preview() []run.Document {
	docs := []run.Document{}
	for i := 0; i < l.train.Len() && len(docs) < previewDocuments; i++ {
		for _, doc := range l.train.At(i).Documents() {
			if len(docs) < previewDocuments {
				docs = append(docs, shown(doc, l.model.Vocab(), l.config.Task, l.train.Classes()))
			}
		}
	}
	return docs
}

// shown returns a document as texts: its first token, which is only read, and the targets behind it. Of a task its tokens are only
// read, and what is learned of a classification is the class, of a ranking the relevance.
func shown(doc data.Window, vocab *llama.Vocab, task string, classes []string) (d run.Document) {
	n := len(doc.Targets)
	for n > 1 && doc.LossMask[n-1] == 0 {
		n-- // the last target may be of what follows
	}
	if d.Cut = n > previewTokens; d.Cut {
		n = previewTokens
	}
	add := func(text string, learned, special bool) {
		if k := len(d.Parts); k == 0 || d.Parts[k-1].Learned != learned || d.Parts[k-1].Special != special {
			d.Parts = append(d.Parts, run.Part{Learned: learned, Special: special})
		}
		d.Parts[len(d.Parts)-1].Text += text // of tokens that may be part of a character
	}
	token := func(id int32, learned bool) {
		text := vocab.Piece(id, true)
		add(text, learned, text != "" && vocab.Piece(id, false) == "")
	}
	if task == "" {
		token(doc.Tokens[0], false)
	}
	for i, target := range doc.Targets[:n] {
		if task == "" {
			token(target, doc.LossMask[i] != 0)
			continue
		}
		token(doc.Tokens[i], false)
		switch {
		case doc.LossMask[i] == 0:
		case task == run.TaskClassify:
			add("\n"+classes[target], true, false)
		case task == run.TaskRerank:
			add(fmt.Sprintf("\nrelevance %.4g", data.Relevance(target)), true, false)
		}
	}
	for i, p := range d.Parts {
		d.Parts[i].Text = strings.ToValidUTF8(p.Text, "\uFFFD")
	}
	return d
}
