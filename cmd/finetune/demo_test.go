package main

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// The demo takes the chat model that is in the cache, says where there is none, and takes the embedded base then, or where it is
// asked to.
func TestDemoChoosesItsModel(t *testing.T) {
	cache := t.TempDir()
	t.Setenv("FINETUNE_CACHE", cache)
	path := filepath.Join(cache, "models", "SmolLM2-135M-Instruct.Q4_1.gguf")
	for _, tt := range []struct {
		name     string
		there    bool
		embedded bool
		want     string
		said     string
	}{
		{"none in the cache", false, false, "", "no chat model, so a small embedded base learns a small task"},
		{"in the cache", true, false, path, `model "smollm2" is`},
		{"asked for the embedded", true, true, "", ""},
	} {
		if tt.there {
			if err := os.MkdirAll(filepath.Dir(path), 0o777); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(path, nil, 0o666); err != nil {
				t.Fatal(err)
			}
		}
		u, _, stderr := testUI()
		f := demoFlags{embedded: tt.embedded, deviceFlags: deviceFlags{"cpu", -1}}
		if err := f.choose(context.Background(), u); err != nil || f.Model != tt.want {
			t.Errorf("%s: model %q, %v, want %q", tt.name, f.Model, err, tt.want)
		}
		if said := stderr.String(); !strings.Contains(said, tt.said) || tt.said == "" && said != "" {
			t.Errorf("%s: said %q, want %q", tt.name, said, tt.said)
		}
	}
}
