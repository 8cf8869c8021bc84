package models

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"finetune/internal/hint"
)

// deepest is how many folders below its repository a file may lie in.
const deepest = 3

// filesBelow returns the paths of the files below a folder, with slashes and in order, at most so many folders down; none where
// there is no such folder. Links are followed to files only: that is how the hub's cache points to its blobs.
func filesBelow(dir string, depth int) (files []string) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil
	}
	for _, e := range entries {
		switch path := filepath.Join(dir, e.Name()); {
		case e.IsDir() && depth > 0:
			for _, f := range filesBelow(path, depth-1) {
				files = append(files, e.Name()+"/"+f)
			}
		case !e.IsDir() && isRegular(path):
			files = append(files, e.Name())
		}
	}
	return files
}

func isRegular(path string) bool {
	info, err := os.Stat(path)
	return err == nil && info.Mode().IsRegular()
}

// folder is a place where the files of one repository lie.
type folder struct {
	repository        // without file and type
	source     string // SourceOwn and the others
	prefix     string // of the names in that source
	dir        string // empty: files are flat, see flat
	flat       string // path that the names of the files are put behind
}

// path returns where a file of the repository is.
func (f folder) path(file string) string {
	if f.dir == "" {
		return f.flat + strings.ReplaceAll(file, "/", "_")
	}
	return filepath.Join(f.dir, filepath.FromSlash(file))
}

// files returns the paths in the repository of what is in the folder.
func (f folder) files() []string {
	if f.dir != "" {
		return filesBelow(f.dir, deepest)
	}
	var files []string
	entries, _ := os.ReadDir(filepath.Dir(f.flat))
	for _, e := range entries {
		if name, ok := strings.CutPrefix(e.Name(), filepath.Base(f.flat)); ok {
			files = append(files, name)
		}
	}
	return files
}

// ownFolder returns where our cache keeps a repository.
func (s *Store) ownFolder(r repository) folder {
	dir := filepath.Join(s.Own, "hf.co", r.owner, r.repo)
	if r.revision != "" {
		dir = filepath.Join(s.Own, "hf.co", r.owner, r.repo+"@"+r.revision)
	}
	return folder{repository: r, source: SourceOwn, dir: dir}
}

// foldersOf returns where a repository of the hub may lie, in the order in which it is looked for.
func (s *Store) foldersOf(r repository) []folder {
	all := []folder{s.ownFolder(r)}
	for _, hub := range s.Hub {
		if dir := snapshot(filepath.Join(hub, "models--"+r.owner+"--"+r.repo), r.revision); dir != "" {
			all = append(all, folder{repository: r, source: SourceHub, dir: dir})
		}
	}
	if r.revision != "" {
		return all // others do not say of which one their files are
	}
	for _, dir := range s.Llama {
		all = append(all, folder{repository: r, source: SourceLlama, flat: filepath.Join(dir, r.owner+"_"+r.repo+"_")})
	}
	for _, dir := range s.LMStudio {
		all = append(all, folder{repository: r, source: SourceLMStudio, dir: filepath.Join(dir, r.owner, r.repo)})
	}
	return all
}

// snapshot returns the folder of a revision in the hub's cache, empty where it is not there: refs/BRANCH holds the commit, and
// snapshots/COMMIT links to the files.
func snapshot(repo, revision string) string {
	const most = 256
	commit := revision
	if ref := (repository{revision: revision}).branch(); isWord(ref) {
		if text, err := readSmall(filepath.Join(repo, "refs", ref), most); err == nil {
			commit = strings.TrimSpace(string(text))
		}
	}
	dir := filepath.Join(repo, "snapshots", commit)
	if info, err := os.Stat(dir); !isWord(commit) || err != nil || !info.IsDir() {
		return ""
	}
	return dir
}

// lmStudioPath returns the model of a name such as publisher/repo or publisher/repo/file.gguf in LM Studio's folders.
func (s *Store) lmStudioPath(name string) (string, error) {
	r, err := parseHub(prefixHub + name)
	if err != nil {
		return "", hint.With(fmt.Errorf("models: name %q: want a publisher and a repository", prefixLMStudio+name), "such as lmstudio:publisher/repo/file.gguf")
	}
	for _, dir := range s.LMStudio {
		f := folder{repository: r, dir: filepath.Join(dir, r.owner, r.repo)}
		if files := f.files(); len(files) > 0 {
			v, err := choose(r, files)
			if err != nil {
				return "", err
			}
			return f.path(v.name()), nil
		}
	}
	return "", missing(prefixLMStudio+name, "LM Studio's folders", s.LMStudio)
}

// llamaPath returns a file of llama.cpp's own cache.
func (s *Store) llamaPath(name string) (string, error) {
	if !isFile(name) || strings.Contains(name, "/") {
		return "", fmt.Errorf("models: name %q: want the name of a .gguf file", prefixLlama+name)
	}
	for _, dir := range s.Llama {
		if path := filepath.Join(dir, name); isRegular(path) {
			return path, nil
		}
	}
	return "", missing(prefixLlama+name, "llama.cpp's cache", s.Llama)
}

// packagePath returns what scripts/real-model has brought.
func (s *Store) packagePath(name string) (string, error) {
	path := filepath.Join(s.Own, packages[name])
	if _, err := os.Stat(path); errors.Is(err, fs.ErrNotExist) {
		return "", hint.With(fmt.Errorf("models: %q: not in the cache, %q is missing", name, path), "scripts/real-model "+name+" brings it")
	}
	return path, nil
}

func missing(name, place string, dirs []string) error {
	return hint.With(fmt.Errorf("models: %q: not in %s, %s", name, place, quotedAll(dirs)), "finetune models lists what there is")
}

// List returns the models in all places, by source and name, with the headers read. A file that has two names is listed once,
// under the first.
func (s *Store) List() []Model {
	var all []Model
	seen := map[string]bool{}
	add := func(source, name, path string) {
		real, err := filepath.EvalSymlinks(path)
		if err != nil || seen[real] {
			return
		}
		seen[real] = true
		if m := (Model{Name: name, Path: path, Source: source}); m.describe() {
			all = append(all, m)
		}
	}
	for _, name := range sortedKeys(packages) {
		if path := filepath.Join(s.Own, packages[name]); isRegular(path) {
			add(SourceOwn, name, path)
		}
	}
	for _, dir := range subfolders(filepath.Join(s.Own, "hf.co"), 2) {
		owner, repo := filepath.Base(filepath.Dir(dir)), filepath.Base(dir)
		repo, revision, _ := strings.Cut(repo, "@")
		s.listRepository(folder{repository: repository{owner: owner, repo: repo, revision: revision}, source: SourceOwn, prefix: prefixHub, dir: dir}, add)
	}
	for _, dir := range s.Ollama {
		for n := range ollamaNames(dir) {
			if path, err := ollamaBlob(dir, n); err == nil {
				add(SourceOllama, prefixOllama+n.String(), path)
			}
		}
	}
	for _, dir := range s.LMStudio {
		for _, dir := range subfolders(dir, 2) {
			r := repository{owner: filepath.Base(filepath.Dir(dir)), repo: filepath.Base(dir)}
			s.listRepository(folder{repository: r, source: SourceLMStudio, prefix: prefixLMStudio, dir: dir}, add)
		}
	}
	for _, dir := range s.Llama {
		for _, v := range variantsOf(filesBelow(dir, 0)) {
			add(SourceLlama, prefixLlama+v.name(), filepath.Join(dir, v.name()))
		}
	}
	for _, hub := range s.Hub {
		for _, dir := range subfolders(hub, 1) {
			parts := strings.Split(filepath.Base(dir), "--")
			if len(parts) != 3 || parts[0] != "models" || snapshot(dir, "") == "" {
				continue
			}
			r := repository{owner: parts[1], repo: parts[2]}
			s.listRepository(folder{repository: r, source: SourceHub, prefix: prefixHub, dir: snapshot(dir, "")}, add)
		}
	}
	return all
}

// listRepository adds the models of a folder.
func (s *Store) listRepository(f folder, add func(source, name, path string)) {
	if !isWord(f.owner) || !isWord(f.repo) {
		return
	}
	for _, v := range variantsOf(f.files()) {
		at := f.owner + "/" + f.repo + "/"
		if f.revision != "" {
			at += "resolve/" + f.revision + "/"
		}
		add(f.source, f.prefix+at+v.name(), f.path(v.name()))
	}
}

// subfolders returns the folders so many levels below dir, in order.
func subfolders(dir string, levels int) (dirs []string) {
	if levels == 0 {
		return []string{dir}
	}
	entries, _ := os.ReadDir(dir)
	for _, e := range entries {
		if e.IsDir() {
			dirs = append(dirs, subfolders(filepath.Join(dir, e.Name()), levels-1)...)
		}
	}
	return dirs
}

func sortedKeys(m map[string]string) (keys []string) {
	for key := range m {
		keys = append(keys, key)
	}
	slices.Sort(keys)
	return keys
}
