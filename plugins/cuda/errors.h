// From what a call to CUDA gives to a status. For files that have CUDA: the host's stand-ins have none.
#pragma once

#include <cuda_runtime_api.h>

#include "core/problem.h"

namespace sn_deploy::cuda {

// kDevice, after keeping what CUDA said for `device_error` and clearing it; kOk for cudaSuccess.
Status status_from_cuda(cudaError_t error);

// As status_from_cuda for what a device may refuse: kTactic then, and kDevice only for what every call fails with from
// now on.
Status status_of_offer(cudaError_t error);

}  // namespace sn_deploy::cuda
