//go:build faults

// Ways in which native code can end a process: fault.go.
#include "fault.h"

#include <ggml.h>

#include <csignal>
#include <cstdlib>
#include <cstring>
#include <new>
#include <stdexcept>
#include <string>
#include <thread>

static volatile int zero = 0, one = 1;
static int *volatile nowhere = nullptr;

// deeper uses up the stack. What it returns needs what the call returns, so that no loop is made of it.
static int deeper(volatile char *outer) {
	volatile char inner[4096];
	inner[0] = outer ? outer[0] : 0;
	return deeper(inner) + inner[0];
}

static void fpe() {
#if defined(__x86_64__)
	zero = one / zero;
#else // elsewhere a division by zero is a number
	raise(SIGFPE);
#endif
}

static bool cause(const std::string &kind) {
	if (kind == "assert") {
		GGML_ASSERT(zero == 1);
	} else if (kind == "abort") abort();
	else if (kind == "segv") *nowhere = 1;
	else if (kind == "fpe") fpe();
	else if (kind == "illegal") __builtin_trap();
	else if (kind == "bad_alloc") throw std::bad_alloc();
	else if (kind == "exception") throw std::runtime_error("nobody catches this\nnor this");
	else if (kind == "stack") zero = deeper(nullptr);
	else if (kind == "heap") {
		char *p = static_cast<char *>(malloc(64));
		free(p);
		free(p);
	} else return false;
	return true;
}

extern "C" bool ft_fault(const char *kind) {
	const std::string name = kind;
	const char threads[] = "thread-";
	if (name.compare(0, sizeof threads - 1, threads) != 0) return cause(name);
	bool known = false;
	std::thread([&] { known = cause(name.substr(sizeof threads - 1)); }).join();
	return known;
}
