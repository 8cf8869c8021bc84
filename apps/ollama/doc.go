// Package ollama holds package finetune/ollama against Ollama's own packages: its parser reads the Modelfiles, its template
// engine executes the templates, its fs/ggml decodes the adapters. They are no part of the program, and this module is where
// what they depend on stays.
package ollama
