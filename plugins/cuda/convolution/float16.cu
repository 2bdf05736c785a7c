// The kernels, and their launches. Built for compute capability 9.0 and later alone: clusters.
#include <cuda_runtime_api.h>

#include "cuda/convolution/device.h"
#include "cuda/convolution/device_matrix.h"
#include "cuda/convolution/instances.h"
#include "cuda/convolution/kernel.h"
#include "cuda/errors.h"

namespace sn_deploy::cuda {
namespace {

constexpr int threads_of(Product product, int tiles) { return most_warps(product, tiles) * 32; }
constexpr int blocks_of(Product product) { return product == Product::kStreamed ? 2 : 1; }

template <Epilogue kEpilogue, int kDepth, int kTiles, Product kProduct>
__global__ void __launch_bounds__(threads_of(kProduct, kTiles), blocks_of(kProduct))
    convolve_kernel(const __grid_constant__ ConvolutionArguments arguments) {
  DeviceTeam team;
  convolve<__half, kEpilogue, kDepth, kTiles, kProduct>(team, arguments);
}

struct KernelOf {
  template <Epilogue kEpilogue, int kDepth, int kTiles, Product kProduct>
  const void* operator()() const {
    return reinterpret_cast<const void*>(convolve_kernel<kEpilogue, kDepth, kTiles, kProduct>);
  }
};

// The attributes belong to the function and not to the launch: other threads may be about to launch it with more
// memory, and a CUDA graph may hold such a launch. So they are only ever set to the most that the device has.
Status allow(const void* kernel, const ConvolutionLaunch& launch) {
  DeviceLimits limits;
  Status status = current_limits(&limits);
  if (status != Status::kOk) return status;
  status = status_of_offer(
      cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, static_cast<int>(limits.shared_bytes)));
  if (status != Status::kOk || launch.cluster <= kPortableCluster) return status;
  return status_of_offer(cudaFuncSetAttribute(kernel, cudaFuncAttributeNonPortableClusterSizeAllowed, 1));
}

// A launch in CUDA's terms. Not to be copied: `config` points to `attributes`.
struct Config {
  cudaLaunchConfig_t config = {};
  cudaLaunchAttribute attributes[2] = {};

  Config(const ConvolutionLaunch& launch, void* stream) {
    config.gridDim = dim3(static_cast<unsigned>(launch.grid));
    config.blockDim = dim3(static_cast<unsigned>(launch.threads));
    config.dynamicSmemBytes = static_cast<std::size_t>(launch.shared_bytes);
    config.stream = static_cast<cudaStream_t>(stream);
    config.attrs = attributes;
    config.numAttrs = 2;
    attributes[0].id = cudaLaunchAttributeClusterDimension;
    attributes[0].val.clusterDim.x = static_cast<unsigned>(launch.cluster);
    attributes[0].val.clusterDim.y = attributes[0].val.clusterDim.z = 1;
    attributes[1].id = cudaLaunchAttributeProgrammaticStreamSerialization;
    attributes[1].val.programmaticStreamSerializationAllowed = 1;
  }
  Config(const Config&) = delete;
  Config& operator=(const Config&) = delete;
};

}  // namespace

Status check_convolution_room(const ConvolutionLaunch& launch) {
  const void* kernel = for_launch(launch, KernelOf{});
  const Status status = allow(kernel, launch);
  if (status != Status::kOk) return status;
  Config config(launch, nullptr);
  config.config.numAttrs = 1;  // of the cluster alone
  int clusters = 0;
  const Status asked = status_of_offer(cudaOccupancyMaxActiveClusters(&clusters, kernel, &config.config));
  return asked == Status::kOk && clusters == 0 ? Status::kTactic : asked;
}

Status put_convolution(const ConvolutionLaunch& launch, void* stream) {
  const void* kernel = for_launch(launch, KernelOf{});
  const Status status = allow(kernel, launch);
  if (status != Status::kOk) return status;
  const Config config(launch, stream);
  ConvolutionArguments arguments = launch.arguments;
  void* parameters[] = {&arguments};
  return status_of_offer(cudaLaunchKernelExC(&config.config, kernel, parameters));
}

}  // namespace sn_deploy::cuda
