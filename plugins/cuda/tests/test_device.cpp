// device.cpp over a CUDA that refuses: which refusals leave another tactic to be tried. Nothing of CUDA is linked in.
#include <cuda_runtime_api.h>
#include <gtest/gtest.h>

#include <cstring>

#include "cuda/device.h"
#include "cuda/kernels/instances.h"

namespace {

// What launches answer, and whether it stays the answer to everything, as after an illegal access.
cudaError_t launch_error = cudaSuccess;
bool sticky = false;
cudaError_t last = cudaSuccess;

cudaError_t answer(cudaError_t error) {
  if (error != cudaSuccess) last = error;
  return error;
}

void no_kernel(sn_deploy::cuda::Arguments) {}

sn_deploy::cuda::Kernels no_kernels() {
  sn_deploy::cuda::Kernels table = {};
  for (auto& form : table.fused) {
    for (auto& epilogue : form) {
      for (auto& layout : epilogue) layout[0] = layout[1] = &no_kernel;
    }
  }
  for (auto& epilogue : table.normalize) {
    for (auto& layout : epilogue) layout[0] = layout[1] = &no_kernel;
  }
  table.row[0] = table.row[1] = &no_kernel;
  return table;
}

}  // namespace

namespace sn_deploy::cuda {
Kernels float32_kernels() { return no_kernels(); }
Kernels float16_kernels() { return no_kernels(); }
Kernels bfloat16_kernels() { return no_kernels(); }
}  // namespace sn_deploy::cuda

extern "C" {
cudaError_t cudaGetDevice(int* device) {
  *device = 0;
  return cudaSuccess;
}
cudaError_t cudaDeviceGetAttribute(int* value, cudaDeviceAttr attribute, int) {
  *value = attribute == cudaDevAttrMaxSharedMemoryPerBlockOptin ? 227 * 1024 : 8;
  return cudaSuccess;
}
cudaError_t cudaFuncGetAttributes(cudaFuncAttributes* attributes, const void*) {
  *attributes = {};
  attributes->ptxVersion = 90;
  return cudaSuccess;
}
cudaError_t cudaFuncSetAttribute(const void*, cudaFuncAttribute, int) { return cudaSuccess; }
cudaError_t cudaOccupancyMaxActiveClusters(int* clusters, const void*, const cudaLaunchConfig_t*) {
  *clusters = 1;
  return cudaSuccess;
}
cudaError_t cudaMemsetAsync(void*, int, std::size_t, cudaStream_t) { return cudaSuccess; }
cudaError_t cudaLaunchKernelExC(const cudaLaunchConfig_t*, const void*, void**) { return answer(launch_error); }
cudaError_t cudaGetLastError() {
  const cudaError_t error = last;
  if (!sticky) last = cudaSuccess;
  return error;
}
const char* cudaGetErrorString(cudaError_t) { return "refused"; }
}

namespace sn_deploy::cuda::test {
namespace {

Launch launch_of(KernelKind kind, std::int32_t cluster, bool cooperative) {
  Launch launch = {};
  launch.kind = kind;
  launch.grid = 8;
  launch.threads = 256;
  launch.cluster = cluster;
  launch.cooperative = cooperative;
  return launch;
}

class Device : public testing::Test {
 protected:
  void TearDown() override {
    launch_error = last = cudaSuccess;
    sticky = false;
  }
};

// A part of the device (MPS, a green context) may have no room for blocks that have to run at once.
TEST_F(Device, BlocksThatHaveToRunAtOnceMayFindNoRoom) {
  EXPECT_EQ(put(launch_of(KernelKind::kFused, 8, false), nullptr), Status::kOk);
  EXPECT_EQ(put(launch_of(KernelKind::kFused, 1, true), nullptr), Status::kOk);
  launch_error = cudaErrorInvalidClusterSize;
  EXPECT_EQ(put(launch_of(KernelKind::kFused, 8, false), nullptr), Status::kTactic);
  EXPECT_EQ(last, cudaSuccess) << "the caller's next check would find it";
  launch_error = cudaErrorCooperativeLaunchTooLarge;
  EXPECT_EQ(put(launch_of(KernelKind::kFused, 1, true), nullptr), Status::kTactic);
}

TEST_F(Device, WhatEveryTacticMeetsIsTheDevicesError) {
  launch_error = cudaErrorNoKernelImageForDevice;
  EXPECT_EQ(put(launch_of(KernelKind::kNormalize, 1, false), nullptr), Status::kDevice);
  EXPECT_STREQ(device_error(), "refused");
  launch_error = cudaErrorIllegalAddress;
  sticky = true;
  EXPECT_EQ(put(launch_of(KernelKind::kFused, 8, false), nullptr), Status::kDevice);
}

}  // namespace
}  // namespace sn_deploy::cuda::test
