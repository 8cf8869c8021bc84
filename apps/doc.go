// Package apps holds the proof that exported adapters work outside of this program: three apps load a base and an adapter
// and continue prompts greedily, llama.cpp through this project's module, node-llama-cpp, and llama-cpp-python, each with a
// llama.cpp of its own. It is a module of its own for the packages that it needs.
//
// The apps come from their package registries into the folder that the variable APPS names, by make test-apps; make test
// runs those that are there. Where one is not, or cannot be had, its part is skipped and says so. apps/ollama holds
// Modelfiles against Ollama's own packages, apps/page tries the page in a browser.
package apps
