package main

import (
	"strings"

	"finetune/run"
)

// lines is a flag that may be given several times: an entry a line in a setting. What is given takes the place of the default.
type lines struct {
	setting *string
	kind    string
	given   bool
}

func (l *lines) String() string {
	if l.setting == nil { // pflag asks an empty one for its default
		return ""
	}
	return *l.setting
}

func (l *lines) Type() string { return l.kind }

func (l *lines) Set(value string) error {
	if l.given && *l.setting != "" {
		value = *l.setting + "\n" + value
	}
	*l.setting, l.given = value, true
	return nil
}

// Append, Replace and GetSlice make it a pflag.SliceValue.
func (l *lines) Append(value string) error { return l.Set(value) }

func (l *lines) Replace(values []string) error {
	*l.setting, l.given = strings.Join(values, "\n"), true
	return nil
}

func (l *lines) GetSlice() []string { return run.Lines(*l.setting) }
