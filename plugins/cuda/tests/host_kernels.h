// The kernels of a launch, run on the host.
#pragma once

#include "cuda/prepare.h"

namespace sn_deploy::cuda::test {

// Zeroes what the launch wants zeroed, and runs the kernel that it names to its end.
void run(const Launch& launch);

// The same for one element type.
void run_float32(const Launch& launch);
void run_float16(const Launch& launch);
void run_bfloat16(const Launch& launch);

}  // namespace sn_deploy::cuda::test
