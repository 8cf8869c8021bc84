package models

import (
	"context"
	"io"
	"os"
	"path/filepath"
	"strings"

	"finetune/internal/atomicfile"
)

// Found is the file that a name stands for.
type Found struct {
	Path string // of the GGUF; of a split model the first part
	Name string // the name that was resolved; empty where the path itself was given
}

// Progress is how far a download has come.
type Progress struct {
	Name        string // of the file in its repository
	Part, Parts int    // of a split model, from 1 on
	Done, Total int64  // bytes of this file
}

// Resolve finds the model that a name stands for. What is no name, and every file that there is, is its own path. A model of
// the hub that is in no cache is brought, with its progress told some times a second, if progress is not nil; cancelling ctx
// ends that, and what has come is kept for the next time. An error says where the model was looked for, and has hints.
func (s *Store) Resolve(ctx context.Context, name string, progress func(Progress)) (Found, error) {
	if !IsName(name) || isRegular(name) {
		return Found{Path: name}, nil
	}
	path, err := s.path(ctx, name, progress)
	if err != nil {
		return Found{}, err
	}
	return Found{Path: path, Name: name}, nil
}

func (s *Store) path(ctx context.Context, name string, progress func(Progress)) (string, error) {
	if _, ok := packages[name]; ok {
		return s.packagePath(name)
	}
	for prefix, find := range map[string]func(string) (string, error){
		prefixOllama: s.ollamaPath, prefixLMStudio: s.lmStudioPath, prefixLlama: s.llamaPath,
	} {
		if rest, ok := strings.CutPrefix(name, prefix); ok {
			return find(rest)
		}
	}
	r, err := parseHub(name)
	if err != nil {
		return "", err
	}
	return s.hubPath(ctx, r, progress)
}

// hubPath returns a model of the hub from a cache, or brings it into ours.
func (s *Store) hubPath(ctx context.Context, r repository, progress func(Progress)) (string, error) {
	if path := s.cached(r); path != "" {
		return path, nil
	}
	h := newHub(s)
	files, err := h.list(ctx, r)
	if err != nil {
		return "", s.withLocal(err, r)
	}
	names := make([]string, 0, len(files))
	for name := range files {
		names = append(names, name)
	}
	v, err := choose(r, names)
	if err != nil {
		return "", err
	}
	own := s.ownFolder(r)
	for i, name := range v.parts {
		tell := func(done int64) {
			if progress != nil {
				progress(Progress{Name: name, Part: i + 1, Parts: len(v.parts), Done: done, Total: files[name].size})
			}
		}
		if err := h.bring(ctx, files[name], own.path(name), tell); err != nil {
			return "", err
		}
	}
	if r.file == "" && r.kind == "" {
		return own.path(v.name()), own.remember(v)
	}
	return own.path(v.name()), nil
}

// cached returns the model in the first folder that has all of it, empty if none does. A name without file and type is
// answered by a type that everybody takes for it, or by what it was found to mean before.
func (s *Store) cached(r repository) string {
	for _, f := range s.foldersOf(r) {
		meant := r
		if r.file == "" && r.kind == "" {
			if meant.file = f.remembered(); meant.file == "" {
				meant.kind = usualType
			}
		}
		files := f.files()
		if f.dir == "" && meant.file != "" {
			meant.file = strings.ReplaceAll(meant.file, "/", "_")
		}
		if v, err := choose(meant, files); err == nil {
			return f.path(v.name())
		}
	}
	return ""
}

// meaningFile says in a folder of ours which file the repository's name alone stands for.
const meaningFile = ".model"

func (f folder) remember(v variant) error {
	return atomicfile.Write(filepath.Join(f.dir, meaningFile), func(w io.Writer) error {
		_, err := io.WriteString(w, v.name()+"\n")
		return err
	})
}

// remembered returns what remember has kept, empty where there is nothing.
func (f folder) remembered() string {
	const most = 1 << 10
	if f.source != SourceOwn {
		return ""
	}
	text, err := readSmall(filepath.Join(f.dir, meaningFile), most)
	if name := strings.TrimSpace(string(text)); err == nil && isFile(name) {
		return name
	}
	return ""
}

// exists reports whether there is a file of a size.
func exists(path string, size int64) bool {
	info, err := os.Stat(path)
	return err == nil && info.Mode().IsRegular() && info.Size() == size
}
