// The kernels of a launch, run on the host.
#pragma once

#include "cuda/prepare.h"

namespace sn_deploy::cuda::test {

// Zeroes what the launch wants zeroed, and runs the kernel that it names to its end.
void run(const Launch& launch);

}  // namespace sn_deploy::cuda::test
