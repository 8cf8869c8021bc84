package data

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"finetune/chat"
)

// randomRecords makes records of the fields that people use, in any combination. Every text is a word that stands nowhere else.
type randomRecords struct {
	*rand.Rand
	words []string // of the record under way
}

func (r *randomRecords) one(names string) string {
	list := strings.Fields(names)
	return list[r.IntN(len(list))]
}

func (r *randomRecords) word() string {
	w := fmt.Sprintf("w%dx", r.IntN(1<<40))
	r.words = append(r.words, w)
	return w
}

// value is a word most often, or what else may stand in its place.
func (r *randomRecords) value(depth int) any {
	switch n := r.IntN(14); {
	case n == 0:
		return nil
	case n == 1:
		return ""
	case n == 2:
		return r.IntN(2) == 0
	case n == 3 && depth < 3:
		return []any{r.part(depth + 1), r.part(depth + 1)}
	case n == 4 && depth < 3:
		return map[string]any{r.one("name text value content arguments"): r.value(depth + 1), "name": "call" + r.word()}
	}
	return r.word()
}

func (r *randomRecords) part(depth int) any {
	p := map[string]any{"type": r.one("text text text thinking reasoning tool_use image input_text")}
	for range 1 + r.IntN(2) {
		p[r.one("text text value thinking reasoning name input content weight")] = r.value(depth + 1)
	}
	return p
}

func (r *randomRecords) message(role string) any {
	m := map[string]any{r.one("role role role from"): role}
	if r.IntN(6) > 0 {
		m[r.one("content content content value")] = r.value(0)
	}
	for r.IntN(3) == 0 {
		m[r.one("content value reasoning_content reasoning thinking thought analysis name tool_calls function_call tool_call tools weight from")] = r.value(0)
	}
	if role == "assistant" && r.IntN(4) == 0 {
		call := map[string]any{"name": r.word(), r.one("arguments parameters args values input"): map[string]any{"k" + r.word(): r.word()}}
		m[r.one("tool_calls tool_calls function_call tool_call")] = []any{call}
	}
	return m
}

func (r *randomRecords) record() []byte {
	r.words = nil
	o := map[string]any{}
	if r.IntN(3) > 0 {
		var list []any
		for range 1 + r.IntN(2) {
			list = append(list, r.message(r.one("user user user human system narrator")), r.message(r.one("assistant assistant assistant gpt Assistant tool")))
		}
		o[r.one("messages messages conversations prompt chosen history")] = list
	}
	for range r.IntN(4) {
		o[r.one("system system_prompt prompt question instruction input context output answer response completion chosen rejected tools functions text label history data")] = r.value(0)
	}
	b, err := json.Marshal(o)
	if err != nil {
		panic(err)
	}
	return b
}

// TestRandomRecordsLoseNothingInSilence: whatever the combination of fields, each word of a record stands in what is learned or
// read, or there is an error of one line, or a note.
func TestRandomRecordsLoseNothingInSilence(t *testing.T) {
	r := &randomRecords{Rand: rand.New(rand.NewPCG(14, 3))}
	path := filepath.Join(t.TempDir(), "a.jsonl")
	templates := []string{chatML, toolChat, thinks, noSystem, llamaLike, cutsThoughts}
	const records = 4000
	read := 0
	for i := range records {
		record := r.record()
		if err := os.WriteFile(path, record, 0o666); err != nil {
			t.Fatal(err)
		}
		set, err := loadFile(path, options{NCtx: 4000, Tokenizer: byteTokenizer{}, Template: chat.Source{Default: templates[i%len(templates)]}})
		if err != nil {
			if strings.Contains(err.Error(), "\n") {
				t.Errorf("%s: %q, want one line", record, err)
			}
			continue
		}
		read++
		text := ""
		for _, e := range examples(set.Train) {
			text += strings.NewReplacer("«", "", "»", "").Replace(marked(e, byteTokenizer{})) + "\n"
		}
		for _, w := range r.words {
			isThere := strings.Contains(string(record), w) // else another took its place
			if isThere && !strings.Contains(text, w) && len(set.Train.Stats().Notes(4000)) == 0 {
				t.Errorf("template %d: %s\n%s is in none of %q", i%len(templates), record, w, text)
				break
			}
		}
	}
	if read < records/20 {
		t.Errorf("%d of %d records could be read, want more to say something", read, records)
	}
}
