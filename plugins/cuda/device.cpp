#include "cuda/device.h"

#include <cuda_runtime_api.h>

#include <algorithm>
#include <atomic>
#include <cstddef>
#include <cstdint>

#include "cuda/errors.h"
#include "cuda/kernels/instances.h"

namespace sn_deploy::cuda {

static thread_local const char* last_error = "no error";

Status status_from_cuda(cudaError_t error) {
  if (error == cudaSuccess) return Status::kOk;
  last_error = cudaGetErrorString(error);
  static_cast<void>(cudaGetLastError());  // else the caller's next check of its own would find it
  return Status::kDevice;
}

Status status_of_offer(cudaError_t error) {
  const Status status = status_from_cuda(error);
  return status == Status::kDevice && cudaGetLastError() == cudaSuccess ? Status::kTactic : status;
}

namespace {

const void* address_of(Kernel kernel) { return reinterpret_cast<const void*>(kernel); }

// --- The device ---------------------------------------------------------------------------------------------------

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
  // What the kernels have code for goes by what they were compiled for, which may be older than the device: code that
  // the driver makes of PTX has neither clusters nor the wait for what is before them (device_team.h).
  cudaFuncAttributes compiled = {};
  const Status status = status_from_cuda(cudaFuncGetAttributes(&compiled, address_of(float32_kernels().row[0])));
  if (status != Status::kOk) return status;
  const bool clusters = asked[2].value != 0 && compiled.ptxVersion >= 90;
  constexpr int kLargestCluster = 16;  // above 8, occupancy is asked for each kernel
  limits->multiprocessors = std::min(asked[0].value, kMostMultiprocessors);
  limits->shared_bytes = std::min<std::int64_t>(asked[1].value, widest_limits().shared_bytes);
  limits->max_cluster = clusters ? kLargestCluster : 1;
  limits->cooperative = asked[3].value != 0 && compiled.ptxVersion < 90;
  return Status::kOk;
}

// --- Launches -----------------------------------------------------------------------------------------------------

constexpr std::int64_t kDefaultSharedBytes = 48 * 1024;

const Kernels& kernels_of(DataType type) {
  static const Kernels tables[] = {float32_kernels(), float16_kernels(), bfloat16_kernels()};
  return tables[static_cast<int>(type)];
}

Kernel kernel_of(const Launch& launch) {
  const Kernels& kernels = kernels_of(launch.type);
  const auto layout = static_cast<int>(launch.layout);
  const int vector = launch.vector ? 1 : 0;
  const int epilogue = launch.arguments.epilogue;
  switch (launch.kind) {
    case KernelKind::kFused:
      return kernels.fused[static_cast<int>(form_of(launch.resident, launch.arguments))][epilogue][layout][vector];
    case KernelKind::kStatistics:
      return kernels.statistics[launch.resident ? 1 : 0][layout][vector];
    case KernelKind::kNormalize:
      return kernels.normalize[epilogue][layout][vector];
    case KernelKind::kRow:
      return kernels.row[vector];
    case KernelKind::kZero:
      return kernels.zero;
    case KernelKind::kQueue:
      return kernels.queue[epilogue][layout];
  }
  return nullptr;
}

// The attributes belong to the function and not to the launch, and other threads may be about to launch it too: so they
// are only ever set to the most that the device has.
Status allow(Kernel kernel, const Launch& launch) {
  Status status = Status::kOk;
  if (launch.shared_bytes > kDefaultSharedBytes) {
    DeviceLimits limits;
    status = current_limits(&limits);
    if (status != Status::kOk) return status;
    status = status_from_cuda(cudaFuncSetAttribute(address_of(kernel), cudaFuncAttributeMaxDynamicSharedMemorySize,
                                                   static_cast<int>(limits.shared_bytes)));
  }
  if (status == Status::kOk && launch.cluster > kPortableCluster) {
    status =
        status_of_offer(cudaFuncSetAttribute(address_of(kernel), cudaFuncAttributeNonPortableClusterSizeAllowed, 1));
  }
  return status;
}

// A launch in CUDA's terms. Not to be copied: `config` points to `attributes`.
struct Config {
  cudaLaunchConfig_t config = {};
  cudaLaunchAttribute attributes[2] = {};

  // `early`: the launch may begin while the kernel before it in the stream still runs; the kernels wait for it
  // themselves.
  Config(const Launch& launch, cudaStream_t stream, bool early = false) {
    config.gridDim = dim3(static_cast<unsigned>(launch.grid));
    config.blockDim = dim3(static_cast<unsigned>(launch.threads));
    config.dynamicSmemBytes = static_cast<std::size_t>(launch.shared_bytes);
    config.stream = stream;
    config.attrs = attributes;
    if (launch.cluster > 1) {
      attributes[0].id = cudaLaunchAttributeClusterDimension;
      attributes[0].val.clusterDim.x = static_cast<unsigned>(launch.cluster);
      attributes[0].val.clusterDim.y = attributes[0].val.clusterDim.z = 1;
      config.numAttrs = 1;
    } else if (launch.cooperative) {
      attributes[0].id = cudaLaunchAttributeCooperative;
      attributes[0].val.cooperative = 1;
      config.numAttrs = 1;
    }
    if (early && !launch.cooperative) {
      attributes[config.numAttrs].id = cudaLaunchAttributeProgrammaticStreamSerialization;
      attributes[config.numAttrs].val.programmaticStreamSerializationAllowed = 1;
      ++config.numAttrs;
    }
  }
  Config(const Config&) = delete;
  Config& operator=(const Config&) = delete;
};

// Whether the device has room for a cluster of this size with this much memory a block: kTactic where it has none.
Status check_cluster(Kernel kernel, const Launch& launch) {
  const Config config(launch, nullptr);
  int clusters = 0;
  const Status status = status_of_offer(cudaOccupancyMaxActiveClusters(&clusters, address_of(kernel), &config.config));
  if (status != Status::kOk) return status;
  return clusters > 0 ? Status::kOk : Status::kTactic;
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

Status check_room(const Launch& launch) {
  const Kernel kernel = kernel_of(launch);
  const Status status = allow(kernel, launch);
  return status == Status::kOk ? check_cluster(kernel, launch) : status;
}

Status put(const Launch& launch, void* to) {
  const auto stream = static_cast<cudaStream_t>(to);
  const Kernel kernel = kernel_of(launch);
  Status status = allow(kernel, launch);
  if (status == Status::kOk && launch.cluster > kPortableCluster) status = check_cluster(kernel, launch);
  if (status != Status::kOk) return status;
  if (launch.zeroed_bytes > 0) {
    status = status_from_cuda(
        cudaMemsetAsync(launch.arguments.workspace, 0, static_cast<std::size_t>(launch.zeroed_bytes), stream));
    if (status != Status::kOk) return status;
  }
  DeviceLimits limits;
  status = current_limits(&limits);
  if (status != Status::kOk) return status;
  const Config config(launch, stream, limits.max_cluster > 1 && launch.zeroed_bytes == 0);
  Arguments arguments = launch.arguments;
  void* parameters[] = {&arguments};
  const cudaError_t launched = cudaLaunchKernelExC(&config.config, address_of(kernel), parameters);
  // Blocks that have to run at once may find no room in a part of a device (MPS, a green context), whose limits tell
  // nothing of it.
  return launch.cluster > 1 || launch.cooperative ? status_of_offer(launched) : status_from_cuda(launched);
}

const char* device_error() { return last_error; }

}  // namespace sn_deploy::cuda
