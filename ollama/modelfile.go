package ollama

import (
	"fmt"
	"io"
	"strings"

	"finetune/internal/atomicfile"
)

// Modelfile is what ollama create makes a model of (docs/modelfile.mdx and parser/parser.go of Ollama).
type Modelfile struct {
	From     string   // path of the base or of the merged model
	Adapter  string   // path of the GGUF LoRA; empty = none
	Template string   // a Go template; empty = Ollama's own, if it knows the base's
	Stop     []string // texts that end an answer
}

// String returns the file's text.
func (m Modelfile) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "FROM %s\n", quote(m.From))
	if m.Adapter != "" {
		fmt.Fprintf(&b, "ADAPTER %s\n", quote(m.Adapter))
	}
	if m.Template != "" {
		fmt.Fprintf(&b, "TEMPLATE \"\"\"%s\"\"\"\n", m.Template)
	}
	for _, stop := range m.Stop {
		fmt.Fprintf(&b, "PARAMETER stop %s\n", quote(stop))
	}
	return b.String()
}

// quote writes a value of one line. Ollama's quotes have no escapes: text with quotes in it takes three of them.
func quote(s string) string {
	if strings.Contains(s, `"`) {
		return `"""` + s + `"""`
	}
	return `"` + s + `"`
}

// Write puts the file in its place.
func (m Modelfile) Write(path string) error {
	return atomicfile.Write(path, func(w io.Writer) error {
		_, err := io.WriteString(w, m.String())
		return err
	})
}
