// Package run is what a training run was asked for and what it is on disk: its settings ([Config], as YAML, from defaults,
// a file and flags), which of them decide what is learned, and the run directory ([Dir]) with the names of its files.
package run
