package kernels

/*
#include <stdlib.h>
#include "gemm.h"

static double ft_run_peak(long long rounds) { return ft_best_simd()->peak(rounds); }
*/
import "C"

import (
	"fmt"
	"sync"
	"time"
	"unsafe"
)

// SIMD names the instruction set that the kernels run with: "avx512", "avx2", "neon" or "portable", the best that the CPU has.
func SIMD() string { return C.GoString(C.ft_best_simd().name) }

// useSIMD chooses another set that the CPU has.
func useSIMD(name string) error {
	s := C.CString(name)
	defer C.free(unsafe.Pointer(s))
	if !bool(C.ft_use_simd(s)) {
		return fmt.Errorf("kernels: no instruction set %q here", name)
	}
	return nil
}

// PeakFLOPS measures for about d what a loop of independent multiply-adds in registers reaches on the given number of
// threads at once, in floating-point operations a second: the bound of every kernel here.
func PeakFLOPS(threads int, d time.Duration) float64 {
	const rounds = 1 << 16
	rates := make([]float64, threads)
	var wg sync.WaitGroup
	for i := range rates {
		wg.Go(func() {
			start, done := time.Now(), 0.0
			for time.Since(start) < d {
				done += float64(C.ft_run_peak(rounds))
			}
			rates[i] = done / time.Since(start).Seconds()
		})
	}
	wg.Wait()
	var sum float64
	for _, r := range rates {
		sum += r
	}
	return sum
}
