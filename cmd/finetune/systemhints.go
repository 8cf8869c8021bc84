package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"

	"finetune/internal/atomicfile"
)

// systemHints says what can be done about errors of the system, whichever command they end. args is the command line.
func systemHints(err error, args []string) []string {
	path := (*fs.PathError)(nil)
	switch {
	case errors.Is(err, syscall.EFBIG):
		return []string{"files may be no larger here (ulimit -f)"}
	case atomicfile.IsFull(err):
		return []string{"the disk is full, or your share of it: nothing that is there was harmed, make room and give the command again"}
	case errors.Is(err, syscall.EMFILE), errors.Is(err, syscall.ENFILE):
		return []string{"too many files are open at once (ulimit -n)"}
	case errors.As(err, &path) && errors.Is(err, fs.ErrNotExist) && isModel(path.Path, args):
		return []string{"finetune models lists the models of this machine by the names that --model takes"}
	case errors.As(err, &path) && errors.Is(err, fs.ErrNotExist) && !filepath.IsAbs(path.Path) && !typed(path.Path, args):
		here, err := os.Getwd()
		if err != nil {
			return nil
		}
		return []string{fmt.Sprintf("relative paths in settings start at the folder that the command is given in, now %q", here)}
	}
	return nil
}

// isModel reports whether a path was given to --model.
func isModel(path string, args []string) bool {
	i := slices.Index(args, "--model")
	return i >= 0 && i+1 < len(args) && args[i+1] == path || slices.Contains(args, "--model="+path)
}

// typed reports whether a path is part of what the user has typed, and not one of the settings of a run.
func typed(path string, args []string) bool {
	return slices.ContainsFunc(args, func(arg string) bool { return strings.Contains(arg, path) })
}
