package run

import (
	"crypto/sha256"
	"fmt"
	"iter"
	"reflect"

	"go.yaml.in/yaml/v3"
)

// Hash identifies what the settings have a run learn: two configurations with the same
// hash may continue each other's checkpoints, as far as base and data are the same too.
// It is over the values of all fields but those tagged `resume:"free"`; a field that was
// added later counts only with another value than the one it `was`.
func (c Config) Hash() [sha256.Size]byte { return hashSettings(reflect.ValueOf(c)) }

func hashSettings(v reflect.Value) [sha256.Size]byte {
	h := sha256.New()
	for s := range deciding(v) {
		if !s.former {
			fmt.Fprintf(h, "%s=%v\n", s.key, s.value)
		}
	}
	return [sha256.Size]byte(h.Sum(nil))
}

// Changed returns the keys whose values differ between c and other and decide
// what is learned, in the order of the fields; none when the hashes agree.
func (c Config) Changed(other Config) []string {
	theirs := make(map[string]any)
	for s := range deciding(reflect.ValueOf(other)) {
		theirs[s.key] = s.value
	}
	var keys []string
	for s := range deciding(reflect.ValueOf(c)) {
		if s.value != theirs[s.key] {
			keys = append(keys, s.key)
		}
	}
	return keys
}

// field is one field of a Config.
type field struct {
	key    string // in YAML
	value  any
	former bool // added later, and with the value that stands for what was before
}

// deciding yields the settings that decide what is learned, in the order of the fields.
func deciding(v reflect.Value) iter.Seq[field] {
	return func(yield func(field) bool) {
		for i := range v.NumField() {
			f := v.Type().Field(i)
			if f.Tag.Get("resume") == "free" {
				continue
			}
			value := v.Field(i).Interface()
			former, added := formerValue(f)
			if word, ok := f.Tag.Lookup("same"); ok && value == word {
				value = former.Interface()
			}
			if !yield(field{f.Tag.Get("yaml"), value, added && value == former.Interface()}) {
				return
			}
		}
	}
}

// formerValue returns what a field that was added later stood for before there was it.
func formerValue(field reflect.StructField) (reflect.Value, bool) {
	text, added := field.Tag.Lookup("was")
	former := reflect.New(field.Type)
	if added && text != "" {
		if err := yaml.Unmarshal([]byte(text), former.Interface()); err != nil {
			panic(fmt.Sprintf("run: internal error: tag of %s: %v", field.Name, err))
		}
	}
	return former.Elem(), added
}

// setFormer gives every field that was added later the value that stands for what was before.
func setFormer(v reflect.Value) {
	for i := range v.NumField() {
		if former, added := formerValue(v.Type().Field(i)); added {
			v.Field(i).Set(former)
		}
	}
}
