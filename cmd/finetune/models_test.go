package main

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"

	"github.com/rogpeppe/go-internal/testscript"
)

// hub serves a model as the Hugging Face hub does, at owner/repo, and sets HF_ENDPOINT to it: hub FILE NAME [BYTES]. With BYTES
// every answer ends after so many.
func hub(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 || len(args) > 3 {
		ts.Fatalf("usage: hub FILE NAME [BYTES]")
	}
	content, err := os.ReadFile(ts.MkAbs(args[0]))
	ts.Check(err)
	most := int64(len(content))
	if len(args) == 3 {
		_, err := fmt.Sscan(args[2], &most)
		ts.Check(err)
	}
	listing, err := json.Marshal([]any{map[string]any{"type": "file", "path": args[1], "lfs": map[string]any{"oid": hexSHA256(content), "size": len(content)}}})
	ts.Check(err)
	mux := http.NewServeMux()
	mux.HandleFunc("GET /api/models/owner/repo/tree/main", func(w http.ResponseWriter, _ *http.Request) { w.Write(listing) })
	mux.HandleFunc("GET /owner/repo/resolve/main/"+args[1], func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("ETag", `"1"`)
		http.ServeFile(&brief{w, most}, r, ts.MkAbs(args[0]))
	})
	server := httptest.NewServer(mux)
	ts.Defer(server.Close)
	ts.Setenv("HF_ENDPOINT", server.URL)
}

// brief is an answer whose connection breaks after so many bytes of the body.
type brief struct {
	http.ResponseWriter
	left int64
}

func (b *brief) Write(p []byte) (int, error) {
	if int64(len(p)) <= b.left {
		b.left -= int64(len(p))
		return b.ResponseWriter.Write(p)
	}
	b.ResponseWriter.Write(p[:b.left])
	b.ResponseWriter.(http.Flusher).Flush()
	panic(http.ErrAbortHandler)
}

// intoOllama puts a model into Ollama's store: ollama NAME TAG FILE
func intoOllama(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 3 {
		ts.Fatalf("usage: ollama NAME TAG FILE")
	}
	content, err := os.ReadFile(ts.MkAbs(args[2]))
	ts.Check(err)
	store := ts.Getenv("OLLAMA_MODELS")
	for path, text := range map[string][]byte{
		filepath.Join("blobs", "sha256-"+hexSHA256(content)): content,
		filepath.Join("manifests/registry.ollama.ai/library", args[0], args[1]): fmt.Appendf(nil,
			`{"layers":[{"mediaType":"application/vnd.ollama.image.model","digest":"sha256:%s"}]}`, hexSHA256(content)),
	} {
		path = filepath.Join(store, path)
		ts.Check(os.MkdirAll(filepath.Dir(path), 0o777))
		ts.Check(os.WriteFile(path, text, 0o666))
	}
}

func hexSHA256(content []byte) string {
	sum := sha256.Sum256(content)
	return hex.EncodeToString(sum[:])
}
