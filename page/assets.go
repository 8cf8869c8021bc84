package page

import (
	"bytes"
	"embed"
	"net/http"
	"time"
)

//go:embed assets
var files embed.FS

// scripts are one script, in this order: a report holds it as it is, which modules that import each other could not be.
var scripts = []string{"numbers.js", "elements.js", "plot.js", "runs.js", "sections.js", "chat.js", "main.js"}

// asset is a file of the page.
type asset struct {
	kind string
	body []byte
}

// assets are served to whoever asks: they hold nothing of any run.
var assets = map[string]asset{
	"/":          {"text/html; charset=utf-8", embedded("index.html")},
	"/style.css": {"text/css; charset=utf-8", embedded("style.css")},
	"/page.js":   {"text/javascript; charset=utf-8", embedded(scripts...)},
}

func isAsset(path string) bool {
	_, ok := assets[path]
	return ok
}

// embedded returns files one behind the other.
func embedded(names ...string) []byte {
	var all bytes.Buffer
	for _, name := range names {
		text, err := files.ReadFile("assets/" + name)
		if err != nil {
			panic("page: internal error: " + err.Error())
		}
		all.Write(text)
	}
	return all.Bytes()
}

func (a asset) serve(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Content-Type", a.kind)
	http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(a.body))
}
