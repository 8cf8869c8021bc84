package convert

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"math"
	"os"
	"path/filepath"
)

// config is an adapter_config.json, of PEFT or of MLX. The first value of a wrong
// kind sticks as its error.
type config struct {
	path   string
	values map[string]json.RawMessage
	err    error
}

// maxConfig is far above any configuration, in bytes.
const maxConfig = 16 << 20

// readConfig reads the file of a folder.
func readConfig(dir string) (*config, error) { return readJSON(filepath.Join(dir, configFile)) }

// readJSON reads an object. Python writes NaN and Infinity, which are no JSON and are
// refused as such.
func readJSON(path string) (*config, error) {
	text, err := readText(path)
	if err != nil {
		return nil, err
	}
	return parseConfig(path, text)
}

// readText reads a file of settings.
func readText(path string) ([]byte, error) {
	if info, err := os.Stat(path); err == nil && !info.Mode().IsRegular() {
		return nil, &FormatError{path, "not a regular file"} // a named pipe would be waited for
	}
	file, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	text, err := io.ReadAll(io.LimitReader(file, maxConfig+1))
	if err != nil {
		return nil, err
	}
	if len(text) > maxConfig {
		return nil, &FormatError{path, fmt.Sprintf("has more than %d bytes", maxConfig)}
	}
	return text, nil
}

func parseConfig(path string, text []byte) (*config, error) {
	c := &config{path: path}
	if err := json.Unmarshal(text, &c.values); err != nil {
		if err := checkDownload(path); err != nil {
			return nil, err
		}
		return nil, &FormatError{path, fmt.Sprintf("is no JSON object: %v", err)}
	}
	if c.values == nil {
		return nil, &FormatError{path, "is no JSON object: null"}
	}
	return c, nil
}

func (c *config) fail(key, want string) {
	if c.err == nil {
		got := string(c.values[key])
		switch {
		case got == "":
			got = "missing"
		case len(got) > 60:
			got = got[:60] + "…"
		}
		c.err = &FormatError{c.path, fmt.Sprintf("%s is %s, want %s", key, got, want)}
	}
}

// has reports whether a key is there and not null.
func (c *config) has(key string) bool {
	v, ok := c.values[key]
	return ok && string(v) != "null"
}

// empty reports whether a key is missing, null, false, "" or an empty list or object.
func (c *config) empty(key string) bool {
	var v any
	if !c.has(key) || json.Unmarshal(c.values[key], &v) != nil {
		return !c.has(key)
	}
	switch v := v.(type) {
	case bool:
		return !v
	case string:
		return v == ""
	case []any:
		return len(v) == 0
	case map[string]any:
		return len(v) == 0
	}
	return false
}

// as reads a value into what v points to, and leaves it as it is if the key is
// missing or null.
func (c *config) as(key, want string, v any) {
	if c.has(key) && json.Unmarshal(c.values[key], v) != nil {
		c.fail(key, want)
	}
}

func (c *config) text(key string) string {
	var s string
	c.as(key, "a string", &s)
	return s
}

func (c *config) boolean(key string) bool {
	var b bool
	c.as(key, "true or false", &b)
	return b
}

func (c *config) number(key string, missing float64) float64 {
	c.as(key, "a number", &missing)
	return missing
}

// whole reads a whole number from 1 to most, which Python may have written as 8.0.
func (c *config) whole(key string, missing, most int) int {
	v := c.number(key, float64(missing))
	if v != math.Trunc(v) || v < 1 || v > float64(most) {
		c.fail(key, fmt.Sprintf("a whole number from 1 to %d", most))
		return missing
	}
	return int(v)
}

// rule is a line of a pattern: a regular expression and its number.
type rule struct {
	pattern string
	value   float64
}

// rules reads an object of numbers in its order, which decides: the first that
// matches counts.
func (c *config) rules(key string) []rule {
	if !c.has(key) {
		return nil
	}
	const want = "an object of numbers"
	var list []rule
	dec := json.NewDecoder(bytes.NewReader(c.values[key]))
	if t, err := dec.Token(); err != nil || t != json.Delim('{') {
		c.fail(key, want)
		return nil
	}
	for dec.More() {
		name, err := dec.Token()
		if err != nil {
			break // the object was valid when the file was read
		}
		var v float64
		if dec.Decode(&v) != nil {
			c.fail(key, want)
			return nil
		}
		list = append(list, rule{name.(string), v})
	}
	return list
}

// section returns an object within the configuration.
func (c *config) section(key string) *config {
	s := &config{path: c.path, err: c.err, values: map[string]json.RawMessage{}}
	c.as(key, "an object", &s.values)
	if s.err == nil {
		s.err = c.err
	}
	return s
}

// jsonText returns a configuration as Python writes it: keys sorted, two spaces.
func jsonText(v any) []byte {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", "  ")
	if err := enc.Encode(v); err != nil {
		panic(fmt.Sprintf("convert: internal error: %v", err))
	}
	return b.Bytes()
}

// wholeOrNot returns a number as JSON has it: 32 rather than 32.0.
func wholeOrNot(v float64) any {
	if v == math.Trunc(v) && math.Abs(v) < 1<<53 {
		return int64(v)
	}
	return v
}
