package apps

import (
	"encoding/json"
	"os"
	"os/exec"
	"runtime"
	"testing"

	"finetune/internal/need"
)

// nodePrebuilt are node-llama-cpp's packages with a compiled llama.cpp, by GOOS/GOARCH.
var nodePrebuilt = map[string]string{
	"linux/amd64":   "@node-llama-cpp/linux-x64",
	"linux/arm64":   "@node-llama-cpp/linux-arm64",
	"darwin/amd64":  "@node-llama-cpp/mac-x64",
	"darwin/arm64":  "@node-llama-cpp/mac-arm64-metal",
	"windows/amd64": "@node-llama-cpp/win-x64",
}

// node answers with node-llama-cpp. The package's own install script would fetch or build a llama.cpp: it does not run, and
// of the optional packages only the one for this machine's processor is installed.
func node(t *testing.T, r request) reply {
	programs(t, "node", "npm")
	prebuilt, ok := nodePrebuilt[runtime.GOOS+"/"+runtime.GOARCH]
	if !ok {
		need.Skip(t, need.App, "no binary of node-llama-cpp for "+runtime.GOOS+"/"+runtime.GOARCH)
	}
	dir := folder(t, "node", "node-llama-cpp")
	told := put(t, "node/package.json", dir)
	put(t, "node/complete.mjs", dir)
	var manifest struct {
		Dependencies map[string]string `json:"dependencies"`
	}
	if err := json.Unmarshal([]byte(told), &manifest); err != nil {
		t.Fatal(err)
	}
	npm := exec.CommandContext(t.Context(), "npm", "install", "--ignore-scripts", "--omit=optional", "--no-save", "--no-audit", "--no-fund",
		prebuilt+"@"+manifest.Dependencies["node-llama-cpp"])
	install(t, "node-llama-cpp", dir, told, npm)
	script := exec.CommandContext(t.Context(), "node", "complete.mjs")
	script.Dir, script.Env = dir, append(os.Environ(), "NODE_LLAMA_CPP_SKIP_DOWNLOAD=true")
	return ask(t, script, r)
}
