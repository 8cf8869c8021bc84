package convert

import (
	"fmt"
	"os"
	"path/filepath"
)

// modulesFile is sentence-transformers' list of the modules of a model.
const modulesFile = "modules.json"

// transformerOf returns the folder with the adapter, of a folder that sentence-transformers wrote: that itself, or the one of the
// first module, the transformer, which modules.json names. Other folders are returned as they are.
func transformerOf(dir string) (string, error) {
	if _, err := os.Stat(filepath.Join(dir, configFile)); err == nil {
		return dir, nil
	}
	path := filepath.Join(dir, modulesFile)
	if _, err := os.Stat(path); err != nil {
		return dir, nil
	}
	text, err := readText(path)
	if err != nil {
		return "", err
	}
	// A list of objects, as the configuration of a folder is one.
	c, err := parseConfig(path, append(append([]byte(`{"modules":`), text...), '}'))
	if err != nil {
		return "", err
	}
	var modules []struct {
		Path string `json:"path"`
	}
	c.as("modules", "a list of modules", &modules)
	if c.err != nil {
		return "", c.err
	}
	if len(modules) == 0 || modules[0].Path == "" {
		return dir, nil
	}
	if !filepath.IsLocal(modules[0].Path) {
		return "", &FormatError{path, fmt.Sprintf("path is %q, want a folder in this one", modules[0].Path)}
	}
	return filepath.Join(dir, modules[0].Path), nil
}
