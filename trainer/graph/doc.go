// Package graph turns llama.cpp's own forward graph of a model into a graph that trains an adapter on it, or the model's
// own tensors.
//
// The way of one model, in the order of the files:
//
//	trace.go    decode one batch of the wanted shape, stop before the work, keep the list of nodes
//	rewrite.go  repeat the nodes in a graph of our own: cache reads become the fresh K and V, an adapted
//	            weight's product becomes the adapted one, a tensor that is trained is read from its master
//	recurrent.go layers with a state: the cache disappears, a state begins with its document
//	inputs.go   the leaves that change from batch to batch: tokens, positions, masks
//	linear.go   the product with a weight and its adapter, forward and backward: by our kernels, or in ggml's operations
//	dora.go     what a DoRA adds to its LoRA: the lengths of the rows and the magnitudes
//	vjp.go      the backward sweep and its table of rules, one for each operation; the rules by family are in
//	            vjp_norm.go, vjp_activation.go and vjp_shape.go
//	recompute.go activation checkpointing: what is not kept for the backward pass but computed again
//	resident.go the base's weights paged out between their uses
//	place.go    which nodes the CPU computes and which a device, and the copies between them; sides.go runs them
//	opset.go    what the heavy operations are made of on either side, and ways round what a device lacks
//	store.go    parameters, gradients and statistics on a device as one tensor each; mirror.go what the host has of them
//	loss.go     the loss, by our kernels or in ggml's operations
//	body.go     forward and backward up to the hidden state, one graph for the allocator
//	head.go     the output matrix and the loss, a few rows at a time
//	engine.go   the engine; step.go one step: inputs, forward, loss, backward, gradients, which the graph adds to totals,
//	            leaves.go; sizes.go measures its memory, statistics.go its activations, profile.go its time
//
// Shapes, in ggml's order: n_in and n_out of a weight, T tokens of a sequence (n_ctx), S sequences at once,
// N = T·S tokens of a step, V the vocabulary.
//
// No architecture is written by hand. An operation without a rule is an *UnsupportedError before any training.
package graph
