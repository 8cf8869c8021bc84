package main

import (
	"fmt"
	"io"
	"strconv"
	"strings"
	"text/tabwriter"
	"unicode"

	"finetune/internal/inspect"

	"github.com/spf13/cobra"
)

func inspectCommand(u *ui) *cobra.Command {
	var o inspect.Options
	cmd := &cobra.Command{
		Use:   "inspect FILE|RUNDIR",
		Short: "show what a GGUF file or a run directory holds",
		Long: "Inspect shows kind, architecture, quantization mix, metadata and tensors of a GGUF\n" +
			"model or adapter, and the settings and state of a run directory. Of an\n" +
			"adapter it also says how much it changes: ‖ΔW‖ of each matrix and, where that is quick,\n" +
			"the singular values; of a model, which may be given by a name of finetune models, it reads\n" +
			"the header only.",
		Example: "  finetune inspect base.gguf\n  finetune inspect run/ --json",
		Args:    exactly("FILE or RUNDIR"),
		RunE: func(cmd *cobra.Command, args []string) error {
			o.Progress = u.matrices
			found, err := u.findModel(cmd.Context(), args[0])
			if err != nil {
				return err
			}
			r, err := inspect.Path(cmd.Context(), found.Path, o)
			if err != nil {
				return err
			}
			if u.json {
				return u.printJSON(r)
			}
			return printReport(u.results(), r)
		},
	}
	cmd.Flags().BoolVar(&o.Spectrum, "spectrum", false, "singular values of a Dual LoRA too, and of high ranks; for a large one that takes minutes")
	return cmd
}

// printReport writes the report for people, in aligned columns.
func printReport(w io.Writer, r *inspect.Report) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	row := func(cells ...string) { fmt.Fprintln(t, strings.Join(cells, "\t")) }
	row("file", plain(r.Path))
	row("kind", r.Kind)
	row("architecture", plain(r.Architecture))
	if f := r.Format; f != nil {
		row("format", fmt.Sprintf("GGUF %d, %s, alignment %d, %s", f.Version, byteOrderName(f.ByteOrder), f.Alignment, count(f.Parts, "file")))
	}
	if r.Run != nil {
		row("state", runState(r.Run))
	}
	row("parameters", fmt.Sprintf("%s in %s", thousands(r.Parameters), count(len(r.Tensors), "tensor")))
	if r.Parameters > 0 {
		row("data", fmt.Sprintf("%s bytes, %.2f bits a parameter", thousands(r.Bytes), 8*float64(r.Bytes)/float64(r.Parameters)))
	}
	for _, s := range r.Types {
		row("  "+s.Type, fmt.Sprintf("%.1f %% of the parameters in %s", 100*float64(s.Elements)/float64(max(1, r.Parameters)), count(s.Tensors, "tensor")))
	}
	if r.Note != "" {
		row("note", plain(r.Note))
	}
	if r.Adapter != nil {
		adapterRows(row, r.Adapter)
	}
	title := "metadata"
	if r.Run != nil {
		title = "settings"
	}
	fmt.Fprintf(t, "\n%s\n", title)
	for _, key := range r.Keys() {
		row("  "+plain(key), valueText(r.Metadata[key]))
	}
	if r.Adapter != nil {
		weightRows(t, r.Adapter)
	}
	if len(r.Tensors) > 0 {
		fmt.Fprintf(t, "\ntensors\n")
	}
	for _, tensor := range r.Tensors {
		row("  "+plain(tensor.Name), tensor.Type, shapeText(tensor.Shape))
	}
	return t.Flush()
}

// byteOrderName spells out what encoding/binary calls a byte order.
func byteOrderName(name string) string {
	return map[string]string{"LittleEndian": "little endian", "BigEndian": "big endian"}[name]
}

// runState says how far a run has come.
func runState(s *inspect.RunState) string {
	switch n := len(s.Checkpoints); {
	case s.Finished:
		return "finished"
	case n > 0:
		return fmt.Sprintf("not finished, newest checkpoint at step %d", s.Checkpoints[n-1])
	}
	return "not finished, no checkpoint"
}

// shapeText returns the shape in ggml order, such as "64 × 512".
func shapeText(shape []int64) string {
	var parts []string
	for _, n := range shape {
		parts = append(parts, strconv.FormatInt(n, 10))
	}
	return strings.Join(parts, " × ")
}

// maxValueRunes is where the text of a value is cut.
const maxValueRunes = 72

// valueText returns a metadata value on one line of bounded length.
func valueText(v any) string {
	if long, ok := v.(inspect.LongArray); ok {
		return fmt.Sprintf("%s %s: %s", thousands(int64(long.Count)), long.Elements, cut(jsonText(long.First)))
	}
	if s, ok := v.(string); ok {
		return cut(strconv.Quote(s))
	}
	return cut(jsonText(v))
}

// jsonText returns a value of inspect's, which JSON can always hold.
func jsonText(v any) string {
	text, err := jsonLine(v)
	if err != nil {
		panic(fmt.Sprintf("internal error: %T in a report: %v", v, err))
	}
	return plain(strings.TrimSuffix(string(text), "\n"))
}

// cut shortens a text that is too long for a line.
func cut(s string) string {
	runes := []rune(s)
	if len(runes) <= maxValueRunes {
		return s
	}
	return string(runes[:maxValueRunes]) + "…"
}

// plain returns s, quoted if it holds anything that a terminal might obey.
func plain(s string) string {
	if strings.IndexFunc(s, func(r rune) bool { return !unicode.IsPrint(r) }) >= 0 {
		return strconv.Quote(s)
	}
	return s
}

// count returns a number with its noun, in the plural unless it is 1.
func count(n int, noun string) string {
	if n != 1 {
		noun += "s"
	}
	return thousands(int64(n)) + " " + noun
}

// thousands writes n with commas: 1,234,567.
func thousands(n int64) string {
	s := strconv.FormatInt(n, 10)
	for i := len(s) - 3; i > 0 && s[i-1] != '-'; i -= 3 {
		s = s[:i] + "," + s[i:]
	}
	return s
}
