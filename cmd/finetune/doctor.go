package main

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"text/tabwriter"

	"finetune/device"
	"finetune/internal/atomicfile"
	"finetune/internal/machine"
	"finetune/kernels"
	"finetune/models"

	"github.com/go-skynet/go-llama.cpp/llama"
	"github.com/spf13/cobra"
)

// doctorReport is what finetune doctor prints.
type doctorReport struct {
	Build     versionReport `json:"build"`
	Processor processor     `json:"processor"`
	Devices   []device.Info `json:"devices"` // that --device takes
	Memory    memoryReport  `json:"memory"`
	Disks     []disk        `json:"disks"`
	Hub       hubReport     `json:"hub"`
	Models    []string      `json:"models"` // names that --model takes
	Mend      []complaint   `json:"mend"`   // what keeps things from going as they could
	Notes     []complaint   `json:"notes"`  // what is good to know
}

type processor struct {
	Name    string `json:"name,omitempty"`
	Cores   int    `json:"cores"`
	Threads int    `json:"threads"` // that are used if nothing else is said
	Vector  string `json:"vector"`  // instructions that the kernels use
	Bytes   bool   `json:"bytes"`   // they have dot products of bytes, see kernels.HasBytes
}

// memoryReport is in bytes, 0 for what is not known.
type memoryReport struct {
	Most  int64 `json:"most_bytes"`  // that this process can take
	Limit int64 `json:"limit_bytes"` // of its control groups; 0 = none
	Free  int64 `json:"free_bytes"`  // of the machine's, now
}

// disk is a folder that the program writes into.
type disk struct {
	What string `json:"what"`
	Path string `json:"path"`
	Free int64  `json:"free_bytes"`
}

// hubReport says how models would be brought.
type hubReport struct {
	Endpoint string `json:"endpoint"`
	Token    bool   `json:"token"` // there is one
	Offline  string `json:"offline,omitempty"`
}

// complaint is something to mend or to know.
type complaint struct {
	What string `json:"what"`
	Cure string `json:"cure,omitempty"`
}

func doctorCommand(u *ui) *cobra.Command {
	return &cobra.Command{
		Use:   "doctor",
		Short: "look at the build, the machine, the disks and the models, and say what to mend",
		Long: "Doctor shows how the program was built, what it can run on, what memory and disk there is,\n" +
			"and which models it finds. It uses no network. The exit code is 1 if there is something to mend.",
		Args: exactly(),
		RunE: func(*cobra.Command, []string) error {
			r, err := examine()
			if err != nil {
				return err
			}
			if u.json {
				err = u.printJSON(r)
			} else {
				err = printDoctor(u.results(), r)
			}
			if err == nil && len(r.Mend) > 0 {
				err = fmt.Errorf("%s to mend", counted(len(r.Mend), "thing", "things"))
			}
			return err
		},
	}
}

// leastDisk is what a run over a small model may write, in bytes: checkpoints, an adapter, an export.
const leastDisk = 1 << 30

// leastMemory is what a run over a small model takes, in bytes.
const leastMemory = 1 << 29

func examine() (*doctorReport, error) {
	store, err := models.FromEnvironment(os.Getenv)
	if err != nil {
		return nil, err
	}
	r := &doctorReport{
		Build:     newVersionReport(),
		Processor: processor{machine.ProcessorName(), runtime.NumCPU(), machine.ThreadCount(0), kernels.SIMD(), kernels.HasBytes()},
		Devices:   device.List(),
		Memory:    memoryReport{machine.Memory(), machine.MemoryLimit(), machine.FreeMemory()},
		Hub:       hubReport{store.Endpoint, store.Token != "", store.Offline},
		Models:    []string{}, Mend: []complaint{}, Notes: []complaint{},
	}
	if ok, cure := llama.FastBuild(); !ok {
		r.mend("built without AVX2 and FMA, which this processor has: everything is many times slower", cure)
	}
	r.lookAtMemory()
	r.lookAtDisks(store)
	r.lookAtModels(store)
	for _, name := range unknownVariables() {
		r.mend(name+" is in the environment, and there is no setting of this name", "finetune train --help lists them: --max-memory is "+variableOf("max-memory"))
	}
	if os.Getenv(aloneVariable) != "" {
		r.note(aloneVariable+" is set: a crash in native code takes the program down without a word", "unset it unless you debug")
	}
	return r, nil
}

func (r *doctorReport) mend(what, cure string) { r.Mend = append(r.Mend, complaint{what, cure}) }
func (r *doctorReport) note(what, cure string) { r.Notes = append(r.Notes, complaint{what, cure}) }

func (r *doctorReport) lookAtMemory() {
	m := r.Memory
	switch {
	case m.Most > 0 && m.Most < leastMemory:
		r.mend(fmt.Sprintf("this process can take %s of memory, a run over a small model wants %s", mebibytes(m.Most), mebibytes(leastMemory)), "")
	case m.Free > 0 && m.Free < leastMemory:
		r.mend(fmt.Sprintf("%s of memory are free, a run over a small model wants %s", mebibytes(m.Free), mebibytes(leastMemory)), "end what else is running")
	case m.Limit > 0:
		r.note(fmt.Sprintf("the control group of this process limits it to %s", mebibytes(m.Limit)), "")
	}
}

// lookAtDisks says whether there is room, and the right to write, where results and caches go.
func (r *doctorReport) lookAtDisks(store *models.Store) {
	here, err := os.Getwd()
	if err != nil {
		here = "."
	}
	folders := []disk{{What: "working folder", Path: here}, {What: "models", Path: store.Own}, {What: "temporary files", Path: os.TempDir()}}
	if cache, err := os.UserCacheDir(); err == nil {
		folders = append(folders, disk{What: "caches", Path: filepath.Join(cache, "finetune")})
	} else {
		r.mend("there is no folder for caches: "+err.Error(), "HOME or XDG_CACHE_HOME names one")
	}
	for _, d := range folders {
		there := existing(d.Path)
		d.Free = machine.FreeDisk(there)
		r.Disks = append(r.Disks, d)
		if d.Path == os.TempDir() && there != d.Path {
			r.mend(fmt.Sprintf("%s, %q: there is no such folder", d.What, d.Path), "TMPDIR names one that is there")
		} else if err := atomicfile.Try(there); err != nil {
			r.mend(fmt.Sprintf("%s, %q: cannot be written, %v", d.What, d.Path, err), "")
		} else if d.Free > 0 && d.Free < leastDisk {
			r.mend(fmt.Sprintf("%s, %q: %s are free", d.What, d.Path, mebibytes(d.Free)), "a run writes checkpoints, and a download the whole model")
		}
	}
}

// existing returns the folder itself or the nearest one above it that is there.
func existing(dir string) string {
	for {
		if _, err := os.Stat(dir); !errors.Is(err, os.ErrNotExist) || filepath.Dir(dir) == dir {
			return dir
		}
		dir = filepath.Dir(dir)
	}
}

func (r *doctorReport) lookAtModels(store *models.Store) {
	for _, m := range store.List() {
		if m.Problem != "" {
			r.note(fmt.Sprintf("model %q cannot be read: %s", m.Name, m.Problem), "")
			continue
		}
		r.Models = append(r.Models, m.Name)
	}
	if len(r.Models) == 0 {
		r.note("no models are here", "finetune models --help says where they are looked for, and how one is brought")
	}
}

func printDoctor(w io.Writer, r *doctorReport) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	row := func(name, format string, args ...any) {
		fmt.Fprintf(t, "%s\t%s\n", name, plain(fmt.Sprintf(format, args...)))
	}
	row("finetune", "%s, %s, %s", r.Build.Version, r.Build.Platform, r.Build.Go)
	row("llama.cpp", "%s", r.Build.Llama)
	row("built for", "%s", strings.Trim(r.Build.Backends, " |\n"))
	p := r.Processor
	row("processor", "%s", cmp.Or(p.Name, "not known by name"))
	row("", "%s, %s used; kernels use %s", counted(p.Cores, "logical core", "logical cores"), count(p.Threads, "thread"), vectorText(p))
	for _, d := range r.Devices {
		row("device", "%s: %s", d, strings.Join(append([]string{d.Kind}, d.Features...), ", "))
	}
	switch m := r.Memory; {
	case m.Most == 0:
		row("memory", "not known on this system")
	default:
		row("memory", "%s, %s free", mebibytes(m.Most), mebibytes(m.Free))
	}
	for _, d := range r.Disks {
		row("disk", "%s free for %s, %s", mebibytes(d.Free), d.What, d.Path)
	}
	row("hub", "%s%s", r.Hub.Endpoint, hubText(r.Hub))
	row("models", "%s", strings.Join(r.Models, ", "))
	fmt.Fprintln(t)
	if err := t.Flush(); err != nil {
		return err
	}
	for _, c := range r.Notes {
		printComplaint(w, "note", c)
	}
	for _, c := range r.Mend {
		printComplaint(w, "to mend", c)
	}
	if len(r.Mend) == 0 {
		fmt.Fprintln(w, "nothing to mend")
	}
	return nil
}

func vectorText(p processor) string {
	if p.Bytes {
		return p.Vector + ", and its dot products of bytes"
	}
	return p.Vector
}

func hubText(h hubReport) string {
	text := ", without a token"
	if h.Token {
		text = ", with HF_TOKEN"
	}
	if h.Offline != "" {
		text += "; " + h.Offline
	}
	return text
}

func printComplaint(w io.Writer, kind string, c complaint) {
	fmt.Fprintf(w, "%s: %s\n", kind, asText(c.What))
	if c.Cure != "" {
		fmt.Fprintf(w, "  %s\n", asText(c.Cure))
	}
}
