package convert

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"finetune/internal/hint"
)

// Adapters come in more shapes than PEFT's save_pretrained writes: from a state_dict, of a compiled or a distributed model,
// from a training's folder of checkpoints, or as what a download left in the place of a file.

// adapterName is the name of the adapter that a state_dict has inside of its tensors' names.
var adapterName = regexp.MustCompile(`\.(lora_A|lora_B|lora_embedding_A|lora_embedding_B|lora_magnitude_vector)\.([^.]+)(\.weight)?$`)

// wrappers are what a tensor's name may begin with besides PEFT's own prefix, which may stand there several times or not at all.
var wrappers = []string{peftPrefix, "base_model.", "module.", "_orig_mod."}

// wrappedInside are what a name has where a part of the model was wrapped: by torch.compile, FSDP, activation checkpointing.
var wrappedInside = []string{"._orig_mod.", "._fsdp_wrapped_module.", "._checkpoint_wrapped_module."}

// plainName takes off what a tensor's name has around the module and the factor.
func plainName(name string) string {
	for stripped := true; stripped; {
		stripped = false
		for _, w := range wrappers {
			if rest, ok := strings.CutPrefix(name, w); ok {
				name, stripped = rest, true
				break
			}
		}
	}
	for _, w := range wrappedInside {
		name = strings.ReplaceAll(name, w, ".")
	}
	if strings.HasPrefix(name, "layers.") || strings.HasPrefix(name, "embed_tokens.") { // of the inner model's own state_dict
		name = "model." + name
	}
	if m := adapterName.FindStringSubmatch(name); m != nil && m[2] != "weight" && m[2] != "bias" {
		name = strings.TrimSuffix(name, m[0]) + "." + m[1] + m[3]
	}
	return name
}

// otherParts are words in the names of modules of larger models that are no part of the language model, which a GGUF of
// it does not have.
var otherParts = []string{"vision", "visual", "image", "audio", "multi_modal_projector", "mm_projector", "merger", "connector", "perceiver"}

// otherPart reports whether a module belongs to the part of a model for images or sound.
func otherPart(module string) bool {
	return slices.ContainsFunc(otherParts, func(word string) bool {
		for part := range strings.SplitSeq(module, ".") {
			if strings.Contains(part, word) {
				return true
			}
		}
		return false
	})
}

// isLocal reports whether a base's name is a path of somebody's machine and no name of a model hub, owner/name.
func isLocal(name string) bool {
	return strings.ContainsAny(name, `\`) || strings.Count(name, "/") > 1 || strings.HasPrefix(name, "/") || strings.HasPrefix(name, ".") || strings.HasPrefix(name, "~")
}

// newestCheckpoint returns the folder of an adapter with the highest number among those that a training left in a folder.
func newestCheckpoint(path string) (newest string) {
	best := -1
	for _, weights := range []string{peftWeights, mlxWeights} {
		found, _ := filepath.Glob(filepath.Join(escapeGlob(path), "checkpoint-*", weights))
		for _, f := range found {
			dir := filepath.Dir(f)
			_, number, _ := strings.Cut(filepath.Base(dir), "checkpoint-")
			if n, err := strconv.Atoi(number); err == nil && n > best {
				best, newest = n, dir
			}
		}
	}
	return newest
}

// checkDownload says what lies in the place of a file of weights, if it is what a download may leave there.
func checkDownload(path string) error {
	if info, err := os.Stat(path); err == nil && !info.Mode().IsRegular() {
		return &FormatError{path, "not a regular file"} // a named pipe would be waited for
	}
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	start := make([]byte, 512)
	n, err := io.ReadFull(f, start)
	if err != nil && err != io.ErrUnexpectedEOF && err != io.EOF {
		return err
	}
	start = start[:n]
	what, advice := "", ""
	switch lower := bytes.ToLower(bytes.TrimLeft(start, "\ufeff \t\r\n")); {
	case bytes.HasPrefix(start, []byte("version https://git-lfs")):
		what, advice = "a pointer of Git LFS, not the file itself", "git lfs pull in the folder of the clone brings the file"
	case bytes.HasPrefix(start, []byte("PK\x03\x04")):
		what, advice = "a zip archive", "unpack it; a .bin in it is a pickle, which is not read"
	case bytes.HasPrefix(start, []byte("\x1f\x8b")):
		what, advice = "a gzip archive", "unpack it"
	case bytes.HasPrefix(lower, []byte("<!doctype")), bytes.HasPrefix(lower, []byte("<html")), bytes.HasPrefix(lower, []byte("<?xml")):
		what, advice = "a web page", "the download got a page in place of the file: take the link of the file itself, and be logged in where that is wanted"
	default:
		return nil
	}
	return hint.With(&FormatError{path, fmt.Sprintf("is %s", what)}, advice)
}
