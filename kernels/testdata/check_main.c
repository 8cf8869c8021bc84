#include "check.h"

#include <stdio.h>
#include <string.h>

#define ENTRY(name) { #name, check_##name },
static const struct { const char *name; void (*run)(void); } checks[] = { CHECKS(ENTRY) };
static const int n_checks = sizeof checks / sizeof *checks;

static int find(const char *name) {
	for (int i = 0; i < n_checks; i++)
		if (strcmp(name, checks[i].name) == 0) return i;
	return -1;
}

static void run(int i) {
	const int64_t before = compared;
	checks[i].run();
	printf("  %-13s %lld values\n", checks[i].name, (long long)(compared - before));
	fflush(stdout);
}

// The arguments are the checks to run, none for all. A first one "best" leaves out all instruction sets but the one that
// the kernels choose by themselves.
int main(int argc, char **argv) {
	if (argc > 1 && strcmp(argv[1], "best") == 0) {
		instruction_sets[0] = ft_best_simd()->name, instruction_sets[1] = NULL;
		argc--, argv++;
	}
	for (int i = 1; i < argc; i++)
		if (find(argv[i]) < 0) return fprintf(stderr, "kernels: no check \"%s\"\n", argv[i]), 2;
	printf("kernels:");
	for (const char **set = instruction_sets; *set; set++)
		if (ft_use_simd(*set)) printf(" %s", *set);
	printf("\n");
	for (int i = 0; argc < 2 && i < n_checks; i++) run(i);
	for (int i = 1; i < argc; i++) run(find(argv[i]));
	drain_scratch();
	if (failures) fprintf(stderr, "kernels: %d values are wrong\n", failures);
	return failures != 0;
}
