package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"finetune/chat"
	"finetune/device"
	"finetune/internal/hint"
	"finetune/run"
	"finetune/trainer/data"

	"github.com/spf13/cobra"
	"golang.org/x/term"
)

// dataFlags are those of finetune data.
type dataFlags struct {
	run.Config
	samples int
}

func dataCommand(u *ui) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "data preview|stats|check --model base.gguf --data FILE",
		Short: "show what of the data a model will learn, count it, check it",
		Long: "Data reads files as train does, and trains on nothing.\n\n" +
			"preview shows records as tokens: what an app will send, and behind it what is learned.\n" +
			"stats counts records, tokens and what is left out, with a histogram of the lengths.\n" +
			"check exits with 1 and the reasons if records cannot be read, lose something by the chat\n" +
			"template, are cut, are empty or have nothing to learn.",
		Example: "  finetune data preview --model base.gguf --data train.jsonl\n  finetune data check --model base.gguf --data train.jsonl --ctx 2048",
		Args:    cobra.ArbitraryArgs,
		RunE:    unknownCommand,
	}
	cmd.AddCommand(
		dataPart(u, "preview", "show records as tokens, those that are learned in colour", previewData),
		dataPart(u, "stats", "count records, tokens, lengths, and what is left out", printStats),
		dataPart(u, "check", "exit with 1 and the reasons if something is wrong with the data", checkData),
	)
	return cmd
}

func dataPart(u *ui, name, short string, do func(u *ui, l *data.Looked, f dataFlags) error) *cobra.Command {
	f := dataFlags{Config: run.DefaultConfig(), samples: 3}
	cmd := &cobra.Command{
		Use:   name + " --model base.gguf --data FILE",
		Short: short,
		Args:  exactly(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			startEngine(u, 0)
			if name != "preview" {
				f.samples = 0
			}
			if name == "check" { // everything that is wrong is to be told
				f.SkipBad, f.OnLost = run.MaxCount, "warn"
			}
			l, err := look(cmd.Context(), u, f)
			if err != nil {
				return err
			}
			return do(u, l, f)
		},
	}
	flags := cmd.Flags()
	flags.SortFlags = false
	modelFlag(flags, &f.Model, modelNames+"; its tokens and its chat template are used")
	dataFlag(flags, &f.Data, "text or records: "+dataFiles)
	recordFlags(flags, &f.Config)
	flags.IntVar(&f.Ctx, "ctx", f.Ctx, "tokens a sequence, as in train")
	flags.StringVar(&f.LongRecords, "long-records", f.LongRecords, "records longer than --ctx: cut or skip")
	if name == "preview" {
		flags.IntVar(&f.samples, "n", f.samples, "how many documents to show")
	}
	required(cmd, "model", "data")
	return cmd
}

func look(ctx context.Context, u *ui, f dataFlags) (_ *data.Looked, err error) {
	c := f.Dated(time.Now())
	if err := c.ValidateRecords(); err != nil {
		return nil, err
	}
	base, m, err := openModel(c.Model, device.Placement{})
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, m.Close(), base.Close()) }()
	return data.Look(ctx, c, m.Vocab(), chat.SourceOf(m), f.samples, u.reading())
}

// previewData prints documents as tokens.
func previewData(u *ui, l *data.Looked, f dataFlags) error {
	if u.json {
		for _, s := range l.Samples {
			if err := u.printJSON(s); err != nil {
				return err
			}
		}
		return nil
	}
	for _, note := range l.Stats.Notes(f.Ctx) {
		u.warn(note)
	}
	p := painter{w: u.results(), colour: term.IsTerminal(int(os.Stdout.Fd())) && os.Getenv("NO_COLOR") == ""}
	for i, s := range l.Samples {
		where := fmt.Sprintf("%q", s.Path)
		if s.Line > 0 {
			where += fmt.Sprintf(" line %d", s.Line)
		}
		fmt.Fprintf(p.w, "document %d, %s: %s, %s learned\n", i+1, where, count(len(s.Tokens), "token"), thousands(int64(s.Learned())))
		p.sample(s)
	}
	return nil
}

// painter writes documents: a part that an app sends, then the part that is learned behind it, in colour or between «».
type painter struct {
	w      io.Writer
	colour bool
}

const (
	colourRead    = "\x1b[2m"    // dim
	colourLearned = "\x1b[32m"   // green
	colourSpecial = "\x1b[1;35m" // a control token
	colourOff     = "\x1b[0m"
)

func (p painter) sample(s data.Sample) {
	for from := 0; from < len(s.Tokens); {
		to := from
		for to < len(s.Tokens) && s.Tokens[to].Learned == s.Tokens[from].Learned {
			to++
		}
		p.part(s.Tokens[from:to], s.Tokens[from].Learned)
		from = to
	}
	fmt.Fprintln(p.w)
}

// part writes tokens that are all learned or all read, with a label on the left.
func (p painter) part(tokens []data.SampleToken, learned bool) {
	label, open, shut, colour := "  read     ", "", "", colourRead
	if learned {
		label, open, shut, colour = "  learned  ", "«", "»", colourLearned
	}
	if p.colour {
		open, shut = "", ""
	}
	var b strings.Builder
	for _, run := range byKind(tokens) {
		switch text := visible(run.text); {
		case !p.colour:
			b.WriteString(text)
		case run.special:
			b.WriteString(colourSpecial + text + colourOff)
		default:
			b.WriteString(colour + text + colourOff)
		}
	}
	lines := strings.Split(open+strings.TrimSuffix(b.String(), "\n")+shut, "\n")
	for i, line := range lines {
		if i > 0 {
			label = "           "
		}
		fmt.Fprintln(p.w, label+line)
	}
}

// textRun is the text of neighbouring tokens.
type textRun struct {
	text    string
	special bool
}

// byKind joins tokens, which may each be part of a character, to texts.
func byKind(tokens []data.SampleToken) (runs []textRun) {
	for _, t := range tokens {
		if n := len(runs); n == 0 || runs[n-1].special != t.Special {
			runs = append(runs, textRun{special: t.Special})
		}
		runs[len(runs)-1].text += t.Text
	}
	return runs
}

// visible shows line ends, tabs and what cannot be printed.
func visible(text string) string {
	var b strings.Builder
	for _, r := range text {
		switch {
		case r == '\n':
			b.WriteString("⏎\n")
		case r == '\t':
			b.WriteString("⇥")
		case unicode.IsControl(r) || unicode.Is(unicode.Bidi_Control, r) || r == utf8.RuneError:
			fmt.Fprintf(&b, "⟨%02X⟩", r)
		default:
			b.WriteRune(r)
		}
	}
	return b.String()
}

// dataReport is what finetune data stats prints with --json.
type dataReport struct {
	Format        string   `json:"format,omitempty"`
	Files         int      `json:"files"`
	Records       int      `json:"records"`
	Tokens        int      `json:"tokens"`
	TrainedTokens int      `json:"trained_tokens"`
	Windows       int      `json:"windows"`
	Ctx           int      `json:"ctx"`
	Duplicates    int      `json:"near_duplicates"`
	Empty         int      `json:"empty_answers"`
	Bad           int      `json:"bad"`
	Lost          int      `json:"lost"`
	Cut           int      `json:"cut"`
	Skipped       int      `json:"skipped"`
	Untrained     int      `json:"untrained"` // records without a trained token
	Lengths       []int    `json:"lengths"`   // counts of records by their tokens
	UpTo          []int    `json:"lengths_up_to"`
	Notes         []string `json:"notes,omitempty"`
}

func reportOf(l *data.Looked, ctx int) dataReport {
	s := l.Stats
	r := dataReport{Files: 1, Records: s.Records, Tokens: s.Tokens, TrainedTokens: s.TrainedTokens, Windows: s.Windows, Ctx: ctx,
		Empty: s.Empty, Lost: s.LostRecords + s.LostSkipped, Cut: s.Cut, Skipped: s.Skipped, Untrained: s.NoLoss + s.EmptyRecords, Notes: s.Notes(ctx)}
	r.UpTo, r.Lengths = s.Histogram()
	if s.Source != nil {
		r.Format, r.Files, r.Duplicates, r.Bad = s.Source.Format, s.Source.Files, s.Source.Duplicates, s.Source.Bad
	}
	return r
}

func printStats(u *ui, l *data.Looked, f dataFlags) error {
	r := reportOf(l, f.Ctx)
	if u.json {
		return u.printJSON(r)
	}
	w := u.results()
	row := func(name, format string, args ...any) {
		fmt.Fprintf(w, "%-22s "+format+"\n", append([]any{name}, args...)...)
	}
	if r.Format != "" {
		row("format", "%s (%s)", r.Format, strings.Join(l.Stats.Source.Fields, ", "))
	}
	row("files", "%s", thousands(int64(r.Files)))
	row("records", "%s", thousands(int64(r.Records)))
	row("tokens", "%s, of which %s are learned, in %s of %d", thousands(int64(r.Tokens)), thousands(int64(r.TrainedTokens)), count(r.Windows, "window"), r.Ctx)
	for _, x := range []struct {
		name string
		n    int
	}{{"cut", r.Cut}, {"skipped as too long", r.Skipped}, {"near-duplicates", r.Duplicates}, {"empty answers", r.Empty}, {"bad records", r.Bad},
		{"lost by the template", r.Lost}, {"without trained token", r.Untrained}} {
		row(x.name, "%s", thousands(int64(x.n)))
	}
	most := 0
	for _, n := range r.Lengths {
		most = max(most, n)
	}
	for i, n := range r.Lengths {
		const width = 40 // columns of the longest bar
		row(fmt.Sprintf("up to %s tokens", thousands(int64(r.UpTo[i]))), "%7s %s", thousands(int64(n)), strings.Repeat("█", (n*width+most-1)/max(most, 1)))
	}
	for _, note := range r.Notes {
		u.warn(note)
	}
	return nil
}

// checkData fails with the reasons.
func checkData(u *ui, l *data.Looked, f dataFlags) error {
	reasons := l.Reasons(f.Ctx)
	if u.json {
		if err := u.printJSON(struct {
			dataReport
			Reasons []string `json:"reasons"`
		}{reportOf(l, f.Ctx), reasons}); err != nil {
			return err
		}
	}
	if len(reasons) > 0 {
		for _, r := range reasons {
			u.say("%s", r)
		}
		return hint.With(fmt.Errorf("%s to look at before training", count(len(reasons), "reason")), "finetune data preview shows what is learned")
	}
	if !u.json {
		fmt.Fprintf(u.results(), "%s: nothing is lost, cut, empty or bad; %s of %s tokens are learned\n", count(l.Stats.Records, "record"),
			thousands(int64(l.Stats.TrainedTokens)), thousands(int64(l.Stats.Tokens)))
	}
	return nil
}
