// The pool of gemm.c is private to it, so this file takes its place.
#include "gemm.c"

#include "check.h"

#include <pthread.h>

void drain_scratch(void) {
	while (pool) {
		struct piece *p = pool;
		pool = p->next;
		free(p);
	}
}

void spoil_scratch(void) {
	for (struct piece *p = pool; p; p = p->next) memset(p + 1, 0xff, p->floats * 4);
}

enum { THREADS = 4, ROUNDS = 3000, MOST = 700 };

// Pieces are of one thread at a time and as large as asked for: nobody else writes to them before they are given back.
static void *take_and_give(void *p) {
	const float mine = *(const float *)p;
	uint32_t state = (uint32_t)mine;
	intptr_t wrong = 0;
	for (int round = 0; round < ROUNDS; round++) {
		state = state * 1664525u + 1013904223u;
		const size_t n = 1 + (state >> 8) % MOST;
		float *data = ft_scratch_take(n);
		wrong += (uintptr_t)data % 64 != 0;
		for (size_t i = 0; i < n; i++) data[i] = mine;
		for (size_t i = 0; i < n; i++) wrong += data[i] != mine;
		ft_scratch_give(data);
	}
	return (void *)wrong;
}

void check_scratch(void) {
	pthread_t threads[THREADS];
	float names[THREADS];
	for (int i = 0; i < THREADS; i++) {
		names[i] = (float)(i + 1);
		pthread_create(&threads[i], NULL, take_and_give, &names[i]);
	}
	for (int i = 0; i < THREADS; i++) {
		void *wrong;
		pthread_join(threads[i], &wrong);
		if (wrong) fail("scratch: %lld floats of a piece were another thread's, or it lies unaligned", (long long)(intptr_t)wrong);
		compared += ROUNDS;
	}
	drain_scratch();
	float *first = ft_scratch_take(MOST);
	ft_scratch_give(first);
	float *again = ft_scratch_take(MOST);
	if (again != first) fail("scratch: a piece is not used again");
	ft_scratch_give(again);
}
