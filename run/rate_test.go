package run

import (
	"os"
	"path/filepath"
	"testing"

	"finetune/internal/near"
)

func TestRatesAreReadAndWritten(t *testing.T) {
	for text, want := range map[string]Rate{"auto": AutoRate, "usual": Usual, "2e-3": 2e-3, "0.5": 0.5} {
		got, err := ParseRate(text)
		if again, err := ParseRate(got.Text()); got != want || again != want || err != nil {
			t.Errorf("ParseRate(%q) = %v, again %v, %v, want %v", text, got, again, err, want)
		}
		if err != nil {
			t.Error(err)
		}
	}
	for _, text := range []string{"", "Auto", "-1", "fast"} {
		if got, err := ParseRate(text); err == nil {
			t.Errorf("ParseRate(%q) = %v, want an error", text, got)
		}
	}
}

func TestAutoRateInAFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), ConfigFile)
	for text, want := range map[string]Rate{"lr: auto\n": AutoRate, "lr: 0.01\n": 0.01, "lr: usual\n": Usual, "": Usual} {
		if err := os.WriteFile(path, []byte(text), 0o666); err != nil {
			t.Fatal(err)
		}
		c, err := LoadConfig(path)
		if err != nil || c.LR != want {
			t.Errorf("%q is a rate of %v, %v, want %v", text, c.LR, err, want)
		}
		if err := c.Save(path); err != nil {
			t.Fatal(err)
		}
		if c, err = LoadConfig(path); err != nil || c.LR != want {
			t.Errorf("%q, saved, is a rate of %v, %v, want %v", text, c.LR, err, want)
		}
	}
}

// A rule of thumb: half as high for four times the steps, or four times the rank; half for twice a LoRA's scale; four times as high
// for an eighth of the width, and no lower for more of it.
func TestUsualRate(t *testing.T) {
	over := func(width int, method string, rank int, alpha float64, steps int) float64 {
		c := DefaultsOf(method)
		c.Rank, c.Alpha = rank, alpha
		return c.UsualRate(steps, width)
	}
	of := func(method string, rank int, alpha float64, steps int) float64 {
		return over(usualWidth, method, rank, alpha, steps)
	}
	for _, tt := range []struct {
		what      string
		got, want float64
	}{
		{"lora", of("lora", 8, 16, 30), 2e-3},
		{"four times the steps", of("lora", 8, 16, 120), 1e-3},
		{"four times the rank", of("lora", 32, 64, 30), 1e-3},
		{"twice the scale", of("lora", 8, 32, 30), 1e-3},
		{"a scale of 1", of("dora", 8, 0, 30), 4e-3},
		{"rslora", of("rslora", 16, 8, 30), 2 * of("lora", 16, 64, 30)},
		{"dual-lora", of("dual-lora", 8, 16, 30), 6e-3},
		{"an eighth of the width", over(72, "lora", 8, 16, 30), 8e-3},
		{"four times the width", over(2304, "lora", 8, 16, 30), 2e-3},
	} {
		if !near.Within(tt.got, tt.want, 1e-9) {
			t.Errorf("%s: %v, want %v", tt.what, tt.got, tt.want)
		}
	}
}
