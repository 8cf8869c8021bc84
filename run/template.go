package run

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"finetune/internal/atomicfile"
)

// TemplateFile is the copy of the chat template that a run was given by a path of its own. What is done with the run later
// takes the copy, whatever has become of the file.
const TemplateFile = "template.jinja"

// maxTemplateBytes is above what any template may have (chat/jinja refuses more).
const maxTemplateBytes = 1 << 22

// KeepTemplate copies the template at a path into the run directory, unless it has one; without a path it does nothing.
func (d *Dir) KeepTemplate(path string) error {
	kept := d.Path(TemplateFile)
	if _, err := os.Stat(kept); path == "" || err == nil {
		return nil
	}
	text, err := readTemplate(path)
	if err != nil {
		return err
	}
	return atomicfile.Write(kept, func(w io.Writer) error {
		_, err := w.Write(text)
		return err
	})
}

// SameTemplate reports whether a template is the one that the run in a directory keeps. A run that keeps none is the same.
func SameTemplate(dir, path string) (bool, error) {
	kept, err := readTemplate(filepath.Join(dir, TemplateFile))
	if errors.Is(err, fs.ErrNotExist) {
		return true, nil
	}
	if err != nil || path == "" {
		return false, err
	}
	text, err := readTemplate(path)
	return bytes.Equal(text, kept), err
}

func readTemplate(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, maxTemplateBytes+1))
	if err == nil && len(text) > maxTemplateBytes {
		err = fmt.Errorf("chat template %q: more than %d bytes", path, maxTemplateBytes)
	}
	return text, err
}

// withKept returns the settings with the template that the directory keeps.
func (c Config) withKept(dir string) Config {
	kept := filepath.Join(dir, TemplateFile)
	if _, err := os.Stat(kept); err == nil && c.Template != "" {
		c.Template = kept
	}
	return c
}
