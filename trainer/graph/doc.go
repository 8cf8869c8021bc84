// Package graph turns llama.cpp's own forward graph of a model into a graph that trains an adapter on it, or the model's
// own tensors.
//
// The way of one model, in the order of the files:
//
//	trace.go    decode one batch of the wanted shape, stop before the work, keep the list of nodes
//	rewrite.go  repeat the nodes in a graph of our own: cache reads become the fresh K and V, an adapted
//	            weight's product gets its adapter term, a tensor that is trained is read from its master
//	inputs.go   the leaves that change from batch to batch: tokens, positions, masks
//	term.go     a weight's product with its adapter, forward and backward: by kernels, or in ggml operations
//	dora.go     what a DoRA adds to its LoRA: the lengths of the rows and the magnitudes
//	vjp.go      the backward sweep and its table of rules, one for each operation; the rules by family are in
//	            vjp_norm.go, vjp_activation.go and vjp_shape.go
//	recompute.go what is not kept for the backward pass but formed again
//	body.go     forward and backward up to the hidden state, one graph for the allocator
//	head.go     the output matrix and the loss, a few rows at a time
//	engine.go   one step: inputs, forward, loss, backward, gradients, which the graph adds to totals; profile.go says
//	            where its time goes
//
// Shapes, in ggml's order: n_in and n_out of a weight, T tokens of a sequence (n_ctx), S sequences at once,
// N = T·S tokens of a step, V the vocabulary.
//
// No architecture is written by hand. An operation without a rule is an *UnsupportedError before any training.
package graph
