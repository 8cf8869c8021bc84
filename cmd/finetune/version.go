package main

import (
	"fmt"
	"runtime"

	"finetune/internal/version"

	"github.com/go-skynet/go-llama.cpp/llama"
	"github.com/spf13/cobra"
)

// versionReport is what `finetune version` prints.
type versionReport struct {
	Version  string `json:"version"`  // see CHANGELOG.md
	Revision string `json:"revision"` // of the source, empty when it is not known
	Go       string `json:"go"`
	Platform string `json:"platform"`
	Llama    string `json:"llama"`    // release of llama.cpp, version and commit of its ggml
	Backends string `json:"backends"` // those in this build with what they were compiled for
	Fast     bool   `json:"fast"`     // compiled for what this processor has
}

func versionCommand(u *ui) *cobra.Command {
	return &cobra.Command{
		Use:   "version",
		Short: "print the version and how the native code was built",
		Args:  exactly(),
		RunE: func(*cobra.Command, []string) error {
			startEngine(u, 0)
			r := newVersionReport()
			if u.json {
				return u.printJSON(r)
			}
			fmt.Fprintf(u.results(), "finetune %s %s %s\n", r.Version, r.Go, r.Platform)
			if r.Revision != "" {
				fmt.Fprintf(u.results(), "revision %s\n", r.Revision)
			}
			fmt.Fprintf(u.results(), "llama.cpp %s\n%s\n", r.Llama, r.Backends)
			return nil
		},
	}
}

// newVersionReport collects what the binary knows about itself.
func newVersionReport() versionReport {
	r := versionReport{
		Version:  version.Version,
		Revision: version.Revision(),
		Go:       runtime.Version(),
		Platform: runtime.GOOS + "/" + runtime.GOARCH,
		Llama:    llama.Release(),
		Backends: llama.BuildInfo(),
	}
	r.Fast, _ = llama.FastBuild()
	return r
}
