package graph

import "fmt"

// UnsupportedError says that the engine cannot train on a model: it met something that it has no rule for. It is found
// while the graph is built, before any training.
type UnsupportedError struct {
	Arch string // general.architecture
	Op   string // the operation, in ggml's name
	Node string // the node, in llama.cpp's name, such as "ffn_out-3"
	Why  string // what is wrong with it
}

func (e *UnsupportedError) Error() string {
	return fmt.Sprintf("graph: architecture %q: node %q (%s): %s", e.Arch, e.Node, e.Op, e.Why)
}
