// The kernels as CUDA functions, one table for each element type.
#pragma once

#include "core/plan.h"
#include "cuda/kernels/arguments.h"

namespace sn_deploy::cuda {

using Kernel = void (*)(Arguments);

struct Kernels {
  // [form or resident][epilogue][layout][0: single elements, 1: vectors of 16 bytes], as far as they apply; no plan
  // asks for slices that are read where they lie in single elements
  Kernel fused[3][3][2][2];
  Kernel statistics[2][2][2];
  Kernel normalize[3][2][2];
  Kernel row[2];
  Kernel zero;
  Kernel queue[3][2];  // [epilogue][layout]; of vectors alone
};

Kernels float32_kernels();
Kernels float16_kernels();
Kernels bfloat16_kernels();

}  // namespace sn_deploy::cuda
