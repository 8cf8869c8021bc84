package ggml

/*
#include <stdlib.h>

// The system's allocator, where it can be told something.
#if defined(__GLIBC__)
#include <malloc.h>
static void ft_trim(void) { malloc_trim(0); }
// What is free at the end of a heap stays up to twice that, as where glibc sets both by itself.
static void ft_return_blocks(int bytes) {
	mallopt(M_MMAP_THRESHOLD, bytes);
	mallopt(M_TRIM_THRESHOLD, 2 * bytes);
}
#else
static void ft_trim(void) {}
static void ft_return_blocks(int bytes) { (void)bytes; }
#endif
*/
import "C"

// Trim gives memory back to the system that the C library keeps of what was freed, where it can be told to (glibc). What is
// in use is not touched.
func Trim() { C.ft_trim() }

// blockBytes is glibc's own bound at the start of a process, which it gives up at the first block of more that is freed.
const blockBytes = 128 << 10

// ReturnBlocks has every large block of C memory go back to the system when it is freed. By itself glibc keeps blocks of up
// to 32 MiB once it has seen one freed, and a graph that is measured, thrown away and made again leaves its memory behind.
// It is a setting of the whole process, for its main function to make; a library has no business there.
func ReturnBlocks() { C.ft_return_blocks(blockBytes) }

// keptBytes is the largest block that glibc keeps by itself.
const keptBytes = 32 << 20

// KeepBlocks takes ReturnBlocks back. The driver of a GPU that is made of software takes and frees blocks for every operation, and
// would wait for the system's pages most of the time.
func KeepBlocks() { C.ft_return_blocks(keptBytes) }
