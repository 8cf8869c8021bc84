package trainer

import (
	"context"
	"strings"
	"testing"

	"finetune/chat"
	"finetune/internal/testmodel"
	"finetune/internal/testrun"
	"finetune/run"
	"finetune/trainer/data"
)

// What a run keeps as its preview are the documents that it trains on, with the learned part marked as data.Look marks it.
func TestPreviewShowsWhatIsLearned(t *testing.T) {
	c := testrun.Tiny(t)
	c.Model = testmodel.Path(t, testmodel.Spec{Layers: 1, Embd: 32, FF: 48, Ctx: 64, ChatTemplate: testmodel.ChatML})
	c.Data, c.ValFraction, c.Ctx, c.Steps = testrun.Write(t, "train.jsonl", `{"messages": [{"role": "user", "content": "who is she"}, {"role": "assistant", "content": "a girl"}]}`+"\n"+
		`{"messages": [{"role": "user", "content": "<b>old</b>"}, {"role": "assistant", "content": "the big dog"}]}`+"\n"), 0, 64, 1
	if _, err := Train(context.Background(), c, false, nil); err != nil {
		t.Fatal(err)
	}
	docs, err := run.Preview(c.Out)
	if err != nil || len(docs) != 2 {
		t.Fatalf("%d documents, %v, want 2", len(docs), err)
	}
	m := testrun.Model(t, c)
	looked, err := data.Look(context.Background(), c, m.Vocab(), chat.SourceOf(m), 2, nil)
	if err != nil {
		t.Fatal(err)
	}
	wanted := map[string]bool{}
	for _, s := range looked.Samples {
		var learned, all strings.Builder
		for _, token := range s.Tokens {
			if token.Learned {
				learned.WriteString(token.Text)
			}
			all.WriteString(token.Text)
		}
		whole := strings.TrimRight(all.String(), " \n") // the template's, behind the turn: read by nothing that is learned
		wanted[whole+"|"+learned.String()] = true
	}
	for _, doc := range docs {
		var learned, all strings.Builder
		special := false
		for _, p := range doc.Parts {
			if p.Learned {
				learned.WriteString(p.Text)
			}
			all.WriteString(p.Text)
			special = special || p.Special
		}
		if !wanted[all.String()+"|"+learned.String()] || learned.Len() == 0 || !special || doc.Cut {
			t.Errorf("document %+v, want one of %v", doc, wanted)
		}
	}
}

// Of a classification the texts are only read, and the class is learned.
func TestPreviewOfAClassificationShowsTheClass(t *testing.T) {
	c := testrun.Tiny(t)
	c.Task, c.Method, c.ValFraction, c.Ctx, c.Steps = run.TaskClassify, "lora", 0, 32, 1
	c.Data = testrun.Write(t, "train.jsonl", `{"text": "the old dog", "label": "animal"}`+"\n"+`{"text": "the house", "label": "thing"}`+"\n")
	if _, err := Train(context.Background(), c, false, nil); err != nil {
		t.Fatal(err)
	}
	docs, err := run.Preview(c.Out)
	if err != nil || len(docs) != 2 {
		t.Fatalf("%d documents, %v, want 2", len(docs), err)
	}
	learned := map[string]bool{}
	for _, doc := range docs {
		var read string
		for _, p := range doc.Parts {
			if p.Learned {
				learned[strings.TrimSpace(read[strings.LastIndexByte(read, ' '):])+strings.TrimSpace(p.Text)] = true
			}
			read += p.Text
		}
	}
	if !learned["doganimal"] || !learned["housething"] || len(learned) != 2 {
		t.Errorf("learned behind the last words: %v of %+v", learned, docs)
	}
}
