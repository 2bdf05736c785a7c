#include "cpu/vector_avx512.h"

#define SN_INSTRUCTION_SET avx512
#include "cpu/kernels.inc"
