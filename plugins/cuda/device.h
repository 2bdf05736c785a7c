// All that calls CUDA: what the current device can do, and launches. The tests have the same functions over the host
// (tests/host_device.cpp).
#pragma once

#include "core/plan.h"
#include "cuda/prepare.h"

namespace sn_deploy::cuda {

// A cluster of no more blocks than this has room on every whole device that has clusters.
inline constexpr std::int32_t kPortableCluster = 8;

// Asks a device once. kDevice, with the reason in `device_error`, where there is none.
Status current_limits(DeviceLimits* limits);

// Whether the device has room for a launch's cluster with this much memory a block: kTactic where it has none.
Status check_room(const Launch& launch);

// Puts a launch on the stream, a cudaStream_t. kTactic where its cluster, or its cooperating blocks, have no room.
Status put(const Launch& launch, void* stream);

// What CUDA said when this thread last met an error.
const char* device_error();

}  // namespace sn_deploy::cuda
