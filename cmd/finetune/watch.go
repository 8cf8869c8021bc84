package main

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"os"
	"time"

	"finetune/eval"
	"finetune/internal/atomicfile"
	"finetune/internal/hint"
	"finetune/model"
	"finetune/page"
	"finetune/run"
	"finetune/serve"
	"finetune/trainer"

	"github.com/go-skynet/go-llama.cpp/llama"
	"github.com/spf13/cobra"
)

// pageGrace is how long the page's last answers may take once the command ends.
const pageGrace = 2 * time.Second

// watchFlags are those of finetune ui.
type watchFlags struct {
	evalFlags
	addr   string
	report string
	force  bool
}

// watchReport is what finetune ui prints once it listens.
type watchReport struct {
	URL string `json:"url"`
}

// writtenReport is what finetune ui --report prints.
type writtenReport struct {
	File string `json:"file"`
}

func watchCommand(u *ui) *cobra.Command {
	var f watchFlags
	cmd := &cobra.Command{
		Use:   "ui RUNDIR|FOLDER…",
		Short: "show runs in a browser, side by side, while they go on and afterwards",
		Long: "Ui serves a page about run directories, or all of those in a folder: curves, samples, what of\n" +
			"the data is learned, settings, what exports keep, and a conversation with what a run has made,\n" +
			"with the adapter and by the base alone. Runs that other processes train grow on it as they go.\n\n" +
			"It listens on this machine alone, and answers who has the whole address with what stands\n" +
			"behind #. finetune train --ui serves the same page for its own run, with a button that stops it.\n\n" +
			"--report writes the page and all its data to one HTML file instead, which loads nothing and asks\n" +
			"for nothing. It holds settings with their paths, samples and the beginning of the data.\n\n" +
			"Ctrl-C or SIGTERM stop it.",
		Example: "  finetune ui runs/\n  finetune ui run1/ run2/ --report report.html",
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) == 0 {
				return wrongUsage(cmd, "RUNDIR or FOLDER is missing")
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, folders []string) error {
			for _, folder := range folders {
				if info, err := os.Stat(folder); err != nil {
					return err
				} else if !info.IsDir() {
					return fmt.Errorf("%q: a file, want a run directory or a folder that holds some", folder)
				}
			}
			if f.report != "" {
				return writePage(u, f, folders)
			}
			startEngine(u, f.threads)
			return watch(cmd.Context(), u, f, folders)
		},
	}
	flags := cmd.Flags()
	flags.SortFlags = false
	flags.StringVar(&f.addr, "addr", "127.0.0.1:0", "`HOST:PORT` on this machine; port 0 is one that is free")
	flags.StringVar(&f.report, "report", "", "write one HTML `FILE` and serve nothing")
	flags.BoolVar(&f.force, "force", false, "replace the --report file if it exists")
	f.addRoom(flags, " of conversations")
	return cmd
}

// writePage writes the report.
func writePage(u *ui, f watchFlags, folders []string) error {
	if err := checkOut(f.report, f.force, page.Find(folders)...); err != nil {
		return err
	}
	err := atomicfile.Write(f.report, func(w io.Writer) error { return page.Report(w, folders) })
	if errors.Is(err, page.ErrNoRun) {
		return hint.With(err, "want the --out folder of finetune train, or a folder that holds some")
	}
	if err != nil {
		return err
	}
	if u.json {
		return u.printJSON(writtenReport{f.report})
	}
	fmt.Fprintf(u.results(), "report  %s\n", plain(f.report))
	return nil
}

// watch serves the page until somebody stops it.
func watch(ctx context.Context, u *ui, f watchFlags, folders []string) error {
	l, err := listenForPage(u, f.addr)
	if err != nil {
		return err
	}
	defer l.Close()
	token := rand.Text()
	h := page.New(page.Options{Token: token, Folders: folders, Chat: func(ctx context.Context, dir string) (*page.Chat, error) {
		return openChat(u, f.evalFlags, dir, token)
	}})
	url := pageURL(l, token)
	if u.json {
		err = u.printJSON(watchReport{url})
	} else {
		fmt.Fprintf(u.results(), "open %s\n", url)
		err = u.flush()
	}
	if err != nil {
		return err
	}
	return servePage(ctx, l, h)
}

// servePage serves until ctx is cancelled, and ends the conversation then.
func servePage(ctx context.Context, l net.Listener, h *page.Handler) error {
	defer h.Close() // when what was being answered has ended or was cut
	return serve.Until(ctx, l, h, pageGrace, func() {})
}

// listenForPage opens a port, and keeps what net/http thinks of connections from the terminal.
func listenForPage(u *ui, addr string) (net.Listener, error) {
	log.SetFlags(0)
	log.SetOutput(io.Discard)
	if u.verbose {
		log.SetOutput(httpLog{u})
	}
	return serve.Listen(addr)
}

// pageURL is the address with the token, which a browser keeps for itself behind the #.
func pageURL(l net.Listener, token string) string {
	return "http://" + l.Addr().String() + "/#" + token
}

// openChat loads the base of a run and its adapter, in a goroutine that holds them until the conversation is closed.
func openChat(u *ui, f evalFlags, dir, token string) (*page.Chat, error) {
	c, err := run.LoadSaved(dir)
	if err != nil {
		return nil, err
	}
	f.model = c.Model
	of := serveFlags{evalFlags: f, name: "base"}
	of.adapters = []string{"adapter=" + dir + ":1"}
	opened, closing, ended := make(chan *page.Chat), make(chan struct{}), make(chan error, 1)
	go func() {
		ended <- withModel(u, f, func(base *model.Base, m *llama.Model, e *eval.Evaluator) (err error) {
			served, free, err := servedModels(u, of, base, m, e)
			defer func() { err = errors.Join(err, e.Use(), free()) }()
			if err != nil {
				return err
			}
			s, err := serve.New(e, served, serve.Options{Token: token})
			if err != nil {
				return err
			}
			opened <- &page.Chat{Handler: s, Template: !served[0].Template.None()}
			<-closing
			s.Stop()
			return nil
		})
	}()
	select {
	case chat := <-opened:
		chat.Close = func() error {
			close(closing)
			return <-ended
		}
		return chat, nil
	case err := <-ended:
		return nil, err
	}
}

// trainPage is the page of a run that goes on in this process; nil where there is none, whose methods do nothing.
type trainPage struct {
	live   *page.Live
	h      *page.Handler
	cancel context.CancelFunc
	served chan error
}

// startTrainPage serves the page of the run in a directory at an address, "" for no page. The page's request to stop goes the way
// of Ctrl-C.
func startTrainPage(u *ui, addr, dir string) (*trainPage, error) {
	if addr == "" {
		return nil, nil
	}
	l, err := listenForPage(u, addr)
	if err != nil {
		return nil, err
	}
	token := rand.Text()
	live := page.NewLive(dir, func() {
		u.say("stopping in good order, as the page asks")
		u.stop(stopPage)
	})
	ctx, cancel := context.WithCancel(context.Background())
	p := &trainPage{live: live, h: page.New(page.Options{Token: token, Live: live}), cancel: cancel, served: make(chan error, 1)}
	go func() { p.served <- servePage(ctx, l, p.h) }()
	u.say("open %s", pageURL(l, token))
	return p, nil
}

func (p *trainPage) event(e trainer.Event) {
	if p != nil {
		p.live.Event(e)
	}
}

// end tells an open page how the run has ended, and closes it.
func (p *trainPage) end(err error) {
	if p == nil {
		return
	}
	p.live.End(err)
	p.h.Farewell()
	p.cancel()
	<-p.served
}
