#include "cuda/device.h"

#include <cuda_runtime_api.h>

#include <algorithm>
#include <atomic>

#include "cuda/prepare.h"

namespace sn_deploy::cuda {
namespace {

thread_local const char* last_error = "no error";

struct CachedLimits {
  std::atomic<bool> known{false};
  DeviceLimits limits;
};

// Asking twice at the same time does no harm but to the cache, so a slot is claimed before it is written.
constexpr int kCachedDevices = 64;
CachedLimits cache[kCachedDevices];
std::atomic<bool> claimed[kCachedDevices];

Status ask(int device, DeviceLimits* limits) {
  struct {
    cudaDeviceAttr attribute;
    int value;
  } asked[] = {{cudaDevAttrMultiProcessorCount, 0},
               {cudaDevAttrMaxSharedMemoryPerBlockOptin, 0},
               {cudaDevAttrClusterLaunch, 0},
               {cudaDevAttrCooperativeLaunch, 0}};
  for (auto& one : asked) {
    const Status status = status_from_cuda(cudaDeviceGetAttribute(&one.value, one.attribute, device));
    if (status != Status::kOk) return status;
  }
  constexpr int kLargestCluster = 16;  // above 8, occupancy is asked for each kernel
  limits->multiprocessors = std::min(asked[0].value, kMostMultiprocessors);
  limits->shared_bytes = std::min<std::int64_t>(asked[1].value, widest_limits().shared_bytes);
  limits->max_cluster = asked[2].value != 0 ? kLargestCluster : 1;
  limits->cooperative = asked[3].value != 0;
  return Status::kOk;
}

}  // namespace

Status current_limits(DeviceLimits* limits) {
  int device = 0;
  Status status = status_from_cuda(cudaGetDevice(&device));
  if (status != Status::kOk) return status;
  const bool cacheable = device >= 0 && device < kCachedDevices;
  if (cacheable && cache[device].known.load(std::memory_order_acquire)) {
    *limits = cache[device].limits;
    return Status::kOk;
  }
  status = ask(device, limits);
  if (status == Status::kOk && cacheable && !claimed[device].exchange(true)) {
    cache[device].limits = *limits;
    cache[device].known.store(true, std::memory_order_release);
  }
  return status;
}

Status status_from_cuda(int error) {
  if (error == cudaSuccess) return Status::kOk;
  last_error = cudaGetErrorString(static_cast<cudaError_t>(error));
  static_cast<void>(cudaGetLastError());  // else the caller's next check of its own would find it
  return Status::kDevice;
}

const char* device_error() { return last_error; }

}  // namespace sn_deploy::cuda
