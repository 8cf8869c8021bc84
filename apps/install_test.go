package apps

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"finetune/internal/need"
)

// installed is the file that says what was installed in a folder.
const installed = "installed"

// folder is where an app is kept between runs, in the user's cache or below the folder that the variable APPS names. The test is skipped where the app
// is not there.
func folder(t *testing.T, name, app string) string {
	t.Helper()
	cache, err := os.UserCacheDir()
	if err != nil {
		t.Fatal(err)
	}
	dir := filepath.Join(cmp.Or(os.Getenv("APPS"), filepath.Join(cache, "finetune", "apps")), name)
	if _, err := os.Stat(filepath.Join(dir, installed)); err != nil {
		mayInstall(t, app)
	}
	if err := os.MkdirAll(dir, 0o777); err != nil {
		t.Fatal(err)
	}
	return dir
}

// mayInstall skips the test unless apps are to be installed.
func mayInstall(t *testing.T, app string) {
	t.Helper()
	if os.Getenv("INSTALL_APPS") != "1" {
		need.Skip(t, need.App, app+" is not installed: make test-apps does that")
	}
}

// programs skips the test where one of them is missing.
func programs(t *testing.T, names ...string) {
	t.Helper()
	for _, name := range names {
		if _, err := exec.LookPath(name); err != nil {
			need.Skip(t, need.App, "no "+name)
		}
	}
}

// outOfReach is how npm and pip say that they reach no registry, or that it does not have a package.
var outOfReach = regexp.MustCompile(`(?m)^.*(?:ENOTFOUND|ECONNREFUSED|ECONNRESET|ETIMEDOUT|EAI_AGAIN|E403|E404|ETARGET|` +
	`NewConnectionError|ConnectionResetError|ReadTimeoutError|Could not find a version).*$`)

// install runs a package client in an app's folder, once for each content of what it is told by. It skips the test where
// the registry is out of reach, and fails it where what came from there does not install.
func install(t *testing.T, app, dir, told string, client *exec.Cmd) {
	t.Helper()
	done := filepath.Join(dir, installed)
	if had, err := os.ReadFile(done); err == nil && string(had) == told {
		return
	}
	mayInstall(t, app)
	start := time.Now()
	client.Dir = dir
	out, err := client.CombinedOutput()
	if why := outOfReach.Find(out); err != nil && why != nil {
		need.Skip(t, need.App, "the registry is out of reach: "+string(bytes.TrimSpace(why)))
	}
	if err != nil {
		t.Fatalf("%s: %v: %s", client.Args[0], err, lastLines(out))
	}
	t.Logf("installed in %s", time.Since(start).Round(time.Second))
	if err := os.WriteFile(done, []byte(told), 0o666); err != nil {
		t.Fatal(err)
	}
}

// ask gives an app's script a request and reads its reply.
func ask(t *testing.T, script *exec.Cmd, r request) (said reply) {
	t.Helper()
	exchange(t, script, r, &said)
	t.Logf("version %s", said.Version)
	return said
}

// exchange writes a question to a script's input and reads the answer from its output, both JSON.
func exchange(t *testing.T, script *exec.Cmd, question, answer any) {
	t.Helper()
	in, err := json.Marshal(question)
	if err != nil {
		t.Fatal(err)
	}
	script.Stdin = bytes.NewReader(in)
	out, err := script.Output()
	if exit, ok := errors.AsType[*exec.ExitError](err); ok {
		t.Fatalf("%s: %v: %s", script.Args[0], err, lastLines(exit.Stderr))
	} else if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(out, answer); err != nil {
		t.Fatalf("%v in %q", err, out)
	}
}

// lastLines is the end of a program's talk.
func lastLines(out []byte) string {
	lines := strings.Split(strings.TrimSpace(string(out)), "\n")
	return strings.Join(lines[max(0, len(lines)-15):], "\n")
}

// put copies a file of this package into a folder.
func put(t *testing.T, from, dir string) (content string) {
	t.Helper()
	text, err := os.ReadFile(from)
	if err == nil {
		err = os.WriteFile(filepath.Join(dir, filepath.Base(from)), text, 0o666)
	}
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}
