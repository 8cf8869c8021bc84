package run

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"finetune/internal/atomicfile"
)

// Document is the beginning of a document as a run learns it.
type Document struct {
	Parts []Part `json:"parts"`
	Cut   bool   `json:"cut,omitempty"` // it goes on
}

// Part is a text of neighbouring tokens that are all learned or all read.
type Part struct {
	Text    string `json:"text"`
	Learned bool   `json:"learned,omitempty"`
	Special bool   `json:"special,omitempty"` // of control tokens, by their names
}

// maxKeptBytes is far above any preview and any list of exports: a file in their place that is larger is not read.
const maxKeptBytes = 16 << 20

// KeepPreview writes documents into PreviewFile, unless the run has one.
func (d *Dir) KeepPreview(docs []Document) error {
	path := d.Path(PreviewFile)
	if _, err := os.Stat(path); err == nil {
		return nil
	}
	return atomicfile.Write(path, func(w io.Writer) error { return json.NewEncoder(w).Encode(docs) })
}

// Preview returns what KeepPreview has written into the run directory. A run of a version that wrote none has no documents.
func Preview(dir string) (docs []Document, err error) {
	text, err := readKept(filepath.Join(dir, PreviewFile))
	if err != nil || text == nil {
		return nil, err
	}
	if err := json.Unmarshal(text, &docs); err != nil {
		return nil, fmt.Errorf("%q: %w", filepath.Join(dir, PreviewFile), err)
	}
	return docs, nil
}

// AddExport appends the result of an export to ExportsFile, one JSON object on one line in a single write.
func AddExport(dir string, result any) (err error) {
	line, err := json.Marshal(result)
	if err != nil {
		return fmt.Errorf("export of %q: %w", dir, err)
	}
	f, err := os.OpenFile(filepath.Join(dir, ExportsFile), os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o666)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	_, err = f.Write(append(line, '\n'))
	return err
}

// Exports returns the lines of ExportsFile that are JSON, oldest first.
func Exports(dir string) (results []json.RawMessage, err error) {
	text, err := readKept(filepath.Join(dir, ExportsFile))
	for line := range bytes.Lines(text) {
		if line = bytes.TrimSpace(line); json.Valid(line) {
			results = append(results, line)
		}
	}
	return results, err
}

// readKept returns a file of a run directory, nil where there is none.
func readKept(path string) ([]byte, error) {
	info, err := os.Stat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, nil
	case err != nil:
		return nil, err
	case !info.Mode().IsRegular() || info.Size() > maxKeptBytes:
		return nil, fmt.Errorf("%q: want a file of at most %d bytes", path, maxKeptBytes)
	}
	return os.ReadFile(path)
}
