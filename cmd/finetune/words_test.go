package main

import "testing"

func TestShellWord(t *testing.T) {
	for in, want := range map[string]string{
		"":                     "''",
		"run/adapter-1.5.gguf": "run/adapter-1.5.gguf",
		"a:0.5,b=C@%+_":        "a:0.5,b=C@%+_",
		"two words":            "'two words'",
		"$HOME":                "'$HOME'",
		"it's":                 `'it'\''s'`,
		"über":                 "'über'",
		"~/x":                  "'~/x'",
	} {
		if got := shellWord(in); got != want {
			t.Errorf("shellWord(%q) = %s, want %s", in, got, want)
		}
	}
}
