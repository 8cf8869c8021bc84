package run

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"reflect"
	"strings"

	"finetune/internal/atomicfile"

	"go.yaml.in/yaml/v3"
)

// maxConfigBytes is far above any configuration: a model given as --config by
// mistake is refused before it is read.
const maxConfigBytes = 1 << 20

// LoadConfig reads a YAML file over the defaults of its method: what the file
// leaves out keeps its default. An unknown key or a second document is an error.
// The values themselves are checked by Validate.
func LoadConfig(path string) (Config, error) { return LoadConfigFor(path, "") }

// LoadConfigFor does what LoadConfig does, over the defaults of another method than the
// file's, which will be used in its place; an empty one stands for the file's.
func LoadConfigFor(path, method string) (Config, error) {
	return load(path, method, func(*Config) {})
}

// LoadSaved reads the settings of the run in a directory. Settings that the version
// which made the run did not have get the value that stands for what it did, and
// Template is the copy that the directory keeps. A
// directory without config.yaml is fs.ErrNotExist by errors.Is.
func LoadSaved(dir string) (Config, error) {
	c, err := load(filepath.Join(dir, ConfigFile), "", func(c *Config) { setFormer(reflect.ValueOf(c).Elem()) })
	return c.withKept(dir), err
}

// load reads a file over defaults that prepare has the last word on.
func load(path, method string, prepare func(*Config)) (Config, error) {
	c := DefaultsOf(method)
	text, err := readConfig(path)
	if err != nil {
		return c, err
	}
	var own struct{ Method string }
	if method == "" && yaml.Unmarshal(text, &own) == nil { // what is wrong with the text shows below
		c = DefaultsOf(own.Method)
	}
	prepare(&c)
	dec := yaml.NewDecoder(bytes.NewReader(text))
	dec.KnownFields(true)
	if err := dec.Decode(&c); err != nil && err != io.EOF { // EOF: an empty file, all defaults
		return c, fmt.Errorf("config %q: %s", path, yamlMessage(err))
	}
	if err := dec.Decode(new(any)); err != io.EOF {
		return c, fmt.Errorf("config %q: holds more than one YAML document", path)
	}
	return c, nil
}

// readConfig returns the bytes of a file that is small enough to be a Config.
func readConfig(path string) ([]byte, error) {
	if info, err := os.Stat(path); err == nil && !info.Mode().IsRegular() && !info.IsDir() {
		return nil, fmt.Errorf("config %q: not a regular file", path) // a named pipe would be waited for
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, maxConfigBytes+1))
	if err != nil {
		return nil, err
	}
	if len(text) > maxConfigBytes {
		return nil, fmt.Errorf("config %q: larger than %d bytes", path, maxConfigBytes)
	}
	return text, nil
}

// yamlMessage turns the YAML package's error, which may have several lines and
// name Go types, into the first of its complaints in words of the file.
func yamlMessage(err error) string {
	text := strings.TrimPrefix(err.Error(), "yaml: ")
	if list := (*yaml.TypeError)(nil); errors.As(err, &list) && len(list.Errors) > 0 {
		text = list.Errors[0]
	}
	text, _, _ = strings.Cut(text, "\n")
	return strings.NewReplacer(" in type run.Config", "", "into run.Config", "into keys and values", "field ", "key ", " not found", " is unknown").Replace(text)
}

// Save writes the configuration as YAML, atomically.
func (c Config) Save(path string) error {
	text, err := yaml.Marshal(c)
	if err != nil {
		return fmt.Errorf("config %q: %w", path, err)
	}
	return atomicfile.Write(path, func(w io.Writer) error {
		_, err := w.Write(text)
		return err
	})
}

// Setting is a key of config.yaml with its value.
type Setting struct {
	Key   string `json:"key"`
	Value any    `json:"value"`
}

// Settings returns all settings in the order of the file.
func (c Config) Settings() (all []Setting, err error) {
	var node yaml.Node
	if err := node.Encode(c); err != nil {
		return nil, err
	}
	for i := 0; i+1 < len(node.Content); i += 2 {
		s := Setting{Key: node.Content[i].Value}
		if err := node.Content[i+1].Decode(&s.Value); err != nil {
			return nil, err
		}
		all = append(all, s)
	}
	return all, nil
}
