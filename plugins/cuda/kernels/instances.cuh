// Makes one element type's kernels. Included by one file for each type, which then compile side by side.
#pragma once

#include "cuda/kernels/bodies.h"
#include "cuda/kernels/device_fetch.h"
#include "cuda/kernels/device_team.h"
#include "cuda/kernels/instances.h"

namespace sn_deploy::cuda {
namespace {

inline constexpr int kTwoKernelsThreads = 256;

template <typename T, Layout kLayout, Epilogue kEpilogue, bool kResident, int V>
__global__ void __launch_bounds__(kMaxThreads) fused_kernel(const __grid_constant__ Arguments arguments) {
  DeviceTeam team;
  fused<T, kLayout, kEpilogue, kResident, V>(team, arguments);
}

template <typename T, Layout kLayout, int V>
__global__ void __launch_bounds__(kTwoKernelsThreads) statistics_kernel(const __grid_constant__ Arguments arguments) {
  DeviceTeam team;
  statistics<T, kLayout, V>(team, arguments);
}

template <typename T, Layout kLayout, Epilogue kEpilogue, int V>
__global__ void __launch_bounds__(kTwoKernelsThreads) normalize_kernel(const __grid_constant__ Arguments arguments) {
  DeviceTeam team;
  normalize<T, kLayout, kEpilogue, V>(team, arguments);
}

template <typename T, int V>
__global__ void __launch_bounds__(kMaxThreads) row_kernel(const __grid_constant__ Arguments arguments) {
  DeviceTeam team;
  row<T, V>(team, arguments);
}

template <typename T, Layout kLayout, Epilogue kEpilogue>
void fill(Kernels* kernels) {
  constexpr int V = kFullVector<T>;
  const auto layout = static_cast<int>(kLayout);
  const auto epilogue = static_cast<int>(kEpilogue);
  kernels->fused[0][epilogue][layout][0] = fused_kernel<T, kLayout, kEpilogue, false, 1>;
  kernels->fused[0][epilogue][layout][1] = fused_kernel<T, kLayout, kEpilogue, false, V>;
  kernels->fused[1][epilogue][layout][0] = fused_kernel<T, kLayout, kEpilogue, true, 1>;
  kernels->fused[1][epilogue][layout][1] = fused_kernel<T, kLayout, kEpilogue, true, V>;
  kernels->normalize[epilogue][layout][0] = normalize_kernel<T, kLayout, kEpilogue, 1>;
  kernels->normalize[epilogue][layout][1] = normalize_kernel<T, kLayout, kEpilogue, V>;
}

template <typename T, Layout kLayout>
void fill(Kernels* kernels) {
  fill<T, kLayout, Epilogue::kNone>(kernels);
  fill<T, kLayout, Epilogue::kRelu>(kernels);
  fill<T, kLayout, Epilogue::kAddRelu>(kernels);
  kernels->statistics[static_cast<int>(kLayout)][0] = statistics_kernel<T, kLayout, 1>;
  kernels->statistics[static_cast<int>(kLayout)][1] = statistics_kernel<T, kLayout, kFullVector<T>>;
}

template <typename T>
Kernels kernels_of() {
  Kernels kernels = {};
  fill<T, Layout::kLinear>(&kernels);
  fill<T, Layout::kChannelsLast>(&kernels);
  kernels.row[0] = row_kernel<T, 1>;
  kernels.row[1] = row_kernel<T, kFullVector<T>>;
  return kernels;
}

}  // namespace
}  // namespace sn_deploy::cuda
