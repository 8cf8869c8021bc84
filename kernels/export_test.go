package kernels

// UseSIMD runs the kernels with another instruction set that the CPU has.
var UseSIMD = useSIMD
