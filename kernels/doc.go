// Package kernels holds the operations of training that ggml does not have, or not fast enough, as custom operations of
// ggml on the CPU: products with weights of any type, plain and with an adapter inside, attention, layers with a state, loss,
// and the derivatives of all of them.
//
// Each function adds a node to a graph, as the methods of ggml.Context do, with shapes in ggml's order:
//
//	y := kernels.LoRAMul(ctx, w, x, a, b, scale) // w [n_in, n_out], x [n_in, N], a [n_in, r], b [r, n_out] → y [n_out, N]
//
// A kernel has one name: WeightMulT here is ft_weight_mul_t in C and WEIGHT_MUL_T where Name reports it. Operands of the
// wrong shape, type or layout are a bug of the caller and panic. Every node runs on all threads of its backend, and no
// result depends, to the bit, on how many there are.
//
// # The C side
//
// gemm.c is the packed product that most of them are built on and weight.c what decodes a weight into it; lora.c and dual.c
// decorate that and add ΔW on the way. bytes.c rounds to 8 bits what a gradient can do with. The innermost loops are written
// once, in the compiler's vectors (*_simd.h), and compiled for each instruction set (*_avx512.c,
// *_avx2.c, *_neon.c, *_portable.c); the best that the CPU has is taken when the program runs.
// Their checks in testdata need neither Go nor ggml: make test-sanitize, make test-neon.
package kernels
