package page

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"finetune/run"
)

// built is the program, built once.
var built = sync.OnceValues(func() (string, error) {
	dir, err := os.MkdirTemp("", "page")
	if err != nil {
		return "", err
	}
	path := filepath.Join(dir, "finetune")
	build := exec.Command("go", "build", "-o", path, "./cmd/finetune")
	build.Dir = filepath.Join("..", "..")
	if text, err := build.CombinedOutput(); err != nil {
		return "", fmt.Errorf("%w: %s", err, text)
	}
	return path, nil
})

func TestMain(m *testing.M) {
	code := m.Run()
	if path, err := built(); err == nil {
		os.RemoveAll(filepath.Dir(path))
	}
	os.Exit(code)
}

// program is the program at work, with a page.
type program struct {
	*exec.Cmd
	url, origin string

	mu   sync.Mutex
	said bytes.Buffer // on both streams
}

var address = regexp.MustCompile(`http://127\.0\.0\.1:\d+/#[A-Z0-9]{26}`)

// started runs a command that serves a page, and returns when it says where.
func started(t *testing.T, args ...string) *program {
	t.Helper()
	path, err := built()
	if err != nil {
		t.Fatal(err)
	}
	p := &program{Cmd: exec.Command(path, args...)}
	read, write, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	p.Stdout, p.Stderr = write, write
	if err := p.Start(); err != nil {
		t.Fatal(err)
	}
	write.Close()
	t.Cleanup(func() {
		p.Process.Kill()
		p.Wait()
	})
	found := make(chan string, 1)
	go func() {
		for lines := bufio.NewScanner(read); lines.Scan(); {
			p.mu.Lock()
			fmt.Fprintln(&p.said, lines.Text())
			p.mu.Unlock()
			if url := address.FindString(lines.Text()); url != "" && len(found) == 0 {
				found <- url
			}
		}
		close(found)
	}()
	select {
	case p.url = <-found:
	case <-time.After(patience):
	}
	if p.url == "" {
		t.Fatalf("%v says no address: %s", args, p.text())
	}
	p.origin, _, _ = strings.Cut(p.url, "#")
	return p
}

func (p *program) text() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.said.String()
}

// madeRun writes a run directory with a log of so many steps, whose texts are all the same one, and returns the folder it lies in.
func madeRun(t *testing.T, name string, steps int, text string) (folder string) {
	t.Helper()
	folder = t.TempDir()
	dir := filepath.Join(folder, name)
	if err := os.Mkdir(dir, 0o777); err != nil {
		t.Fatal(err)
	}
	c := run.DefaultConfig()
	c.Model, c.Data, c.Out = "base.gguf", text, dir
	if err := c.Save(filepath.Join(dir, run.ConfigFile)); err != nil {
		t.Fatal(err)
	}
	write := func(file string, lines ...any) {
		var all bytes.Buffer
		for _, line := range lines {
			if err := json.NewEncoder(&all).Encode(line); err != nil {
				t.Fatal(err)
			}
		}
		if err := os.WriteFile(filepath.Join(dir, file), all.Bytes(), 0o666); err != nil {
			t.Fatal(err)
		}
	}
	write(run.PreviewFile, []run.Document{{Parts: []run.Part{{Text: text}, {Text: text, Special: true}, {Text: text, Learned: true}}}})
	write(run.ExportsFile, map[string]any{"file": text, "mode": text, "retention": 0.991, "bytes": 4096, "rank_min": 8, "rank_max": 8, "base_loss": 3.1, "dual_loss": 2.0,
		"export_loss": 2.01, "parameters": 1000, "tensors": []any{map[string]any{"Name": text, "Rank": 8, "Energy": 0.9}}})
	lines := []any{map[string]any{"event": "start", "method": text, "total_steps": steps, "planned_bytes": 64 << 20, "plan": map[string]any{"weights": 48 << 20, "data": 16 << 20},
		"data": []string{text}, "notes": []string{text}},
		map[string]any{"event": "eval", "loss": 3.1},
		map[string]any{"event": "samples", "samples": []any{map[string]any{"prompt": text, "wanted": text, "text": text}}}}
	for i := 1; i <= steps; i++ {
		lines = append(lines, stepLine(i, steps))
		if i%(steps/10+1) == 0 {
			lines = append(lines, map[string]any{"event": "eval", "step": i, "loss": 2 + math.Exp(-4*float64(i)/float64(steps))})
		}
	}
	write(run.LogFile, lines...)
	return folder
}

// stepLine is the line of a step: a loss that falls, with noise.
func stepLine(i, steps int) map[string]any {
	share := float64(i) / float64(steps)
	noise := math.Sin(float64(i)*12.9898) * math.Cos(float64(i)*78.233)
	return map[string]any{"event": "step", "time": time.Now().UTC(), "step": i, "total_steps": steps, "loss": 2 + math.Exp(-4*share) + 0.2*noise, "lr": 1e-3 * (1 - share), "grad_norm": 1 + 0.5*noise,
		"tokens_per_second": 1000 + 10*noise, "raw_tokens_per_second": 1500 + 10*noise, "seconds_left": 10 * (1 - share), "memory_bytes": 50 << 20}
}
