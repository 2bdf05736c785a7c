// What the current device can do.
#pragma once

#include "core/plan.h"

namespace sn_deploy::cuda {

// Asks a device once. kDevice, with the reason in `device_error`, where there is none.
Status current_limits(DeviceLimits* limits);

// Status::kDevice, after keeping what CUDA said for `device_error` and clearing it; kOk for cudaSuccess. `error` is a
// cudaError_t.
Status status_from_cuda(int error);

// What CUDA said when this thread last met an error.
const char* device_error();

}  // namespace sn_deploy::cuda
