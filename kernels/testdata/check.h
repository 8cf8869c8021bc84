// What the checks of the kernels share. They run every kernel outside of ggml and Go, so that it can be built with
// sanitizers, which cgo's build does not offer for C alone, and for a processor that is emulated: make test-sanitize and
// make test-neon.
//
// A check makes operands and nodes that compute something from them, works out in plain loops in double what must come
// out, and hands both to check_nodes. A new kernel takes a file check_<kernel>.c with a function of that name, and its name
// in CHECKS. Operands lie in heap blocks that end with their last element; what no kernel may look at, gaps between
// rows and memory not yet written, is NaN.
#ifndef FINETUNE_CHECK_H
#define FINETUNE_CHECK_H

#include "batch.h"
#include "bytes.h"
#include "dual.h"
#include "lora.h"
#include "thin.h"
#include "weight.h"

// Every check, in the order in which they run.
#define CHECKS(X) X(scratch) X(weight) X(dual) X(bytes) X(masks) X(lora) X(batch) X(attention) X(rows) X(recurrent) X(total) X(cross_entropy) X(distill) X(far)

#define DECLARE(name) void check_##name(void);
CHECKS(DECLARE)

// Three types stand for all: F32, F16, which some sets decode by themselves, and Q8_0 with its blocks of 32 and a scale,
// here always 1/64, for what ggml's to_float decodes in blocks.
#define F32 GGML_TYPE_F32
#define F16 GGML_TYPE_F16
#define Q8 GGML_TYPE_Q8_0
enum { BLOCK = 32 };

// How a tensor lies in memory: dimension i of the memory is dimension axes[i] of the tensor; the lines of the memory's
// first dimension are followed by `gap` elements.
struct layout { const char *name; int axes[4]; int64_t gap; };

// A tensor of random numbers: multiples of 1/8 in [−1, 1] (of 1/64 in [−2, 2] for Q8), so that sums of a few products are
// exact; halves of many exponents for F16. new_rows has `gap` blocks after each row.
tensor new_tensor(enum ggml_type type, int64_t n0, int64_t n1);
tensor new_rows(enum ggml_type type, int64_t n0, int64_t n1, int64_t gap);
tensor new_view(const struct layout *l, int64_t n0, int64_t n1, int64_t n2, int64_t n3);
// A contiguous F32 tensor for a result.
tensor new_result(int64_t n0, int64_t n1, int64_t n2, int64_t n3);
// Tensors of address space that takes no memory until it is touched, however large: one with these strides, one for a
// result. NULL where the system refuses.
tensor new_far(const size_t nb[4], int64_t n0, int64_t n1, int64_t n2, int64_t n3);
tensor new_large(int64_t n0, int64_t n1, int64_t n2, int64_t n3);
void drop_far(tensor t);
void drop(tensor t);
int draw(int n); // 0 ≤ draw < n

int64_t elements(const struct ggml_tensor *t);
double at(const struct ggml_tensor *t, int64_t i0, int64_t i1, int64_t i2, int64_t i3);
// All elements in the order of the shape, wherever they lie.
double *dense(const struct ggml_tensor *t);

// What must come out: for each element the sum of its terms, and of their magnitudes, which the error is measured by. Where
// the sum is NaN, and nowhere else, NaN must come out.
struct want { int64_t n; double *sum, *abs; };
struct want new_want(int64_t n);
struct want want_like(const struct ggml_tensor *t);
void drop_want(struct want w);
static inline void add_term(struct want *w, int64_t i, double term) { w->sum[i] += term, w->abs[i] += term < 0 ? -term : term; }
void set_want(struct want *w, int64_t i, double value, double abs);

// A node, and what its memory holds before; NULL is NaN.
struct node { tensor dst; ft_kernel kernel; float param; const void *before; };
struct result { const char *name; tensor t; struct want want; };

// Computes the nodes in order with every instruction set of the CPU: by one thread with new scratch memory, by one with
// scratch memory full of NaN, by three and by four. The first must give what is wanted and all the same bits.
void check_nodes(const char *what, const struct node *nodes, int n_nodes, const struct result *results, int n_results);
// A node by nth threads.
void compute_node(const struct node *n, int nth);
// One share of a node's work.
void compute_share(const struct node *n, int ith, int nth);
// The names of the instruction sets to check, NULL after the last; ft_use_simd tells which the CPU has.
extern const char *instruction_sets[];
void expect(const char *what, const char *name, const float *got, struct want want); // got [want.n]
void fail(const char *format, ...) __attribute__((format(printf, 1, 2)));
// A name for a case, valid until the next.
const char *label(const char *format, ...) __attribute__((format(printf, 1, 2)));
extern int failures;
extern int64_t compared;

// The products y = S·x and dx = Sᵀ·dy of a sum S [n_in, n_out] that is made from operands 0 and 2 on; check_weight.c.
struct sum { tensor parts[5]; struct want want; };
void check_products(const char *what, const struct sum *s, int64_t tokens, ft_kernel forward, ft_kernel backward, float scale);

// The pool of scratch memory: free all pieces, fill all with NaN; check_scratch.c.
void drain_scratch(void);
void spoil_scratch(void);

#endif
