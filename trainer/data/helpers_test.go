package data

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"finetune/chat"
)

// byteTokenizer is a byte-level vocabulary: 0 to 255 are the bytes, then the special tokens.
type byteTokenizer struct {
	addBOS bool
	space  bool // puts a space in front of a text and of text behind a special token, as SentencePiece does
}

const (
	bosID = 256 + iota
	eosID
	startID
	endID
)

var specialNames = []string{"<s>", "</s>", "<|im_start|>", "<|im_end|>"}

func (t byteTokenizer) Tokenize(text string, addSpecial, parseSpecial bool) ([]int32, error) {
	var ids []int32
	if addSpecial && t.addBOS {
		ids = append(ids, bosID)
	}
	behindSpecial := true
	for text != "" {
		if id, name := specialAt(text); parseSpecial && name != "" {
			ids, text, behindSpecial = append(ids, id), text[len(name):], true
			continue
		}
		if t.space && behindSpecial {
			ids = append(ids, ' ')
		}
		behindSpecial = false
		ids, text = append(ids, int32(text[0])), text[1:]
	}
	return ids, nil
}

func specialAt(text string) (int32, string) {
	for i, name := range specialNames {
		if strings.HasPrefix(text, name) {
			return int32(256 + i), name
		}
	}
	return 0, ""
}

func (t byteTokenizer) Piece(id int32, special bool) string {
	if id < 256 {
		return string([]byte{byte(id)})
	}
	if !special {
		return ""
	}
	return specialNames[id-256]
}

func (t byteTokenizer) BOS() int32          { return bosID }
func (t byteTokenizer) EOS() int32          { return eosID }
func (t byteTokenizer) AddBOS() bool        { return t.addBOS }
func (t byteTokenizer) IsEOG(id int32) bool { return id == eosID || id == endID }

// chatML is the plainest form of that template.
const chatML = `{% for m in messages %}<|im_start|>{{ m.role }}
{{ m.content }}<|im_end|>
{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant
{% endif %}`

// write puts a file into a folder of the test.
func write(t testing.TB, name, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, []byte(text), 0o666); err != nil {
		t.Fatal(err)
	}
	return path
}

// marked writes an example with its learned parts in «».
func marked(e example, tok chat.Tokenizer) string {
	var b strings.Builder
	in := false
	for _, v := range (&Looked{tok: tok}).sample(e, "", 0).Tokens {
		if v.Learned != in {
			b.WriteString(map[bool]string{true: "«", false: "»"}[v.Learned])
			in = v.Learned
		}
		b.WriteString(v.Text)
	}
	if in {
		b.WriteString("»")
	}
	return b.String()
}

func mustLoad(t testing.TB, path string, o options) *dataset {
	t.Helper()
	set, err := loadFile(path, o)
	if err != nil {
		t.Fatal(err)
	}
	return set
}

// examples returns all documents of the windows.
func examples(w *Windows) []example {
	var all []example
	for i := range w.Len() {
		all = append(all, w.Examples(i)...)
	}
	return all
}
