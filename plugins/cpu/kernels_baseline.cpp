#include "cpu/vector_baseline.h"

#define SN_INSTRUCTION_SET baseline
#include "cpu/kernels.inc"
