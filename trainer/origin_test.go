package trainer

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"finetune/adapter"
	"finetune/internal/testmodel"
	"finetune/internal/testrun"
	"finetune/model"
	"finetune/trainer/data"
)

// An adapter that was trained with one chat template says so, and so does not pass for one of a model with another.
func TestAdapterKnowsItsChatTemplate(t *testing.T) {
	const other = "{% for m in messages %}{{ m.content }}{% endfor %}"
	base := func(template string) string {
		return testmodel.Path(t, testmodel.Spec{Layers: 1, Embd: 32, FF: 48, Ctx: 64, ChatTemplate: template})
	}
	for _, method := range testrun.Methods {
		for _, template := range []string{"", testmodel.ChatML} {
			c := testrun.Tiny(t)
			c.Method, c.Model, c.Steps = method, base(template), 1
			s, _ := mustTrain(t, c, false)
			a, err := adapter.Load(s.Adapter)
			if err != nil {
				t.Fatal(err)
			}
			want := ""
			if template != "" {
				want = model.HashText(template)
			}
			if got, _ := a.Meta[adapter.KeyTemplateHash].(string); got != want {
				t.Errorf("%s: %s is %q, want %q", method, adapter.KeyTemplateHash, got, want)
			}
			for _, now := range []string{"", testmodel.ChatML, other} {
				f, err := model.Open(base(now))
				if err != nil {
					t.Fatal(err)
				}
				id, err := f.Identity()
				if err != nil {
					t.Fatal(err)
				}
				err = a.CheckBase(id)
				if differs := template != "" && now == other; errors.Is(err, adapter.ErrOtherBase) != differs || differs && !strings.Contains(err.Error(), "chat template") {
					t.Errorf("%s: trained with template %.9q, used with %.9q: %v", method, template, now, err)
				}
				if err := f.Close(); err != nil {
					t.Fatal(err)
				}
			}
		}
	}
}

// A run over several files ends with a result that tells its data, and one whose file is gone by then too.
func TestDataIsToldAtTheEnd(t *testing.T) {
	c := testrun.Tiny(t)
	first, second := testrun.Write(t, "a.txt", testrun.Story(20)), testrun.Write(t, "b.txt", testrun.Story(30))
	hashes := map[string]bool{}
	for _, paths := range []string{first, second, first + "\n" + second, second + "\n" + first} {
		r := testrun.Elsewhere(t, c)
		r.Data, r.Steps = paths, 1
		s, err := Train(context.Background(), r, false, func(e Event) {
			if e.Kind == "step" && paths == second+"\n"+first {
				os.Remove(first)
				os.Remove(second)
			}
		})
		if err != nil {
			t.Errorf("%q: %v", paths, err)
			continue
		}
		a, err := adapter.Load(s.Adapter)
		if err != nil {
			t.Fatal(err)
		}
		hash, _ := a.Meta[adapter.KeyDataHash].(string)
		if digits, ok := strings.CutPrefix(hash, "sha256:"); !ok || len(digits) != 64 || hashes[hash] {
			t.Errorf("%q: data hash %q, want one of its own", paths, hash)
		}
		hashes[hash] = true
	}
	if want, err := data.Hash(testrun.Write(t, "again.txt", testrun.Story(20))); err != nil || !hashes[want] {
		t.Errorf("hashes %v, want that of the file, %s, among them", hashes, want)
	}
}

// A folder of texts is trained on to the end, and the adapter knows its hash.
func TestAdapterKnowsAFolderOfData(t *testing.T) {
	c := testrun.Tiny(t)
	text := testrun.Read(t, filepath.Dir(c.Data), filepath.Base(c.Data))
	dir := t.TempDir()
	for _, name := range []string{"a.txt", "b.txt"} {
		if err := os.WriteFile(filepath.Join(dir, name), text, 0o666); err != nil {
			t.Fatal(err)
		}
	}
	c.Data, c.Steps = dir, 1
	s, _ := mustTrain(t, c, false)
	a, err := adapter.Load(s.Adapter)
	if err != nil {
		t.Fatal(err)
	}
	want, err := data.Hash(dir)
	if got := a.Meta[adapter.KeyDataHash]; err != nil || got != want {
		t.Errorf("%s is %v, want %s, %v", adapter.KeyDataHash, got, want, err)
	}
}
