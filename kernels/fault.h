// A crash on demand, for tests of what becomes of one. In builds with the tag "faults" only.
#pragma once

#include <stdbool.h>

#ifdef __cplusplus
extern "C" {
#endif

// ft_fault ends the process in the way that kind names, on a thread of its own behind "thread-". false: it knows none such.
bool ft_fault(const char *kind);

#ifdef __cplusplus
}
#endif
