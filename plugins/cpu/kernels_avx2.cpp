#include "cpu/vector_avx2.h"

#define SN_INSTRUCTION_SET avx2
#include "cpu/kernels.inc"
