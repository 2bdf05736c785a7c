// Makes one element type's kernels. Included by one file for each type, which then compile side by side.
#pragma once

#include "cuda/kernels/bodies.h"
#include "cuda/kernels/device_team.h"
#include "cuda/kernels/instances.h"

namespace sn_deploy::cuda {
namespace {

template <Layout kLayout>
inline constexpr int kMostThreads = kLayout == Layout::kLinear ? kMaxThreads : kMaxThreadsLast;
inline constexpr int kTwoKernelsThreads = 256;

template <typename T, Layout kLayout, int V>
__global__ void __launch_bounds__(kMostThreads<kLayout>) fused_kernel(const __grid_constant__ Arguments arguments) {
  DeviceTeam team;
  fused<T, kLayout, V>(team, arguments);
}

template <typename T, Layout kLayout, int V>
__global__ void __launch_bounds__(kTwoKernelsThreads) statistics_kernel(const __grid_constant__ Arguments arguments) {
  DeviceTeam team;
  statistics<T, kLayout, V>(team, arguments);
}

template <typename T, Layout kLayout, int V>
__global__ void __launch_bounds__(kTwoKernelsThreads) normalize_kernel(const __grid_constant__ Arguments arguments) {
  DeviceTeam team;
  normalize<T, kLayout, V>(team, arguments);
}

template <typename T, int V>
__global__ void __launch_bounds__(kMaxThreads) row_kernel(const __grid_constant__ Arguments arguments) {
  DeviceTeam team;
  row<T, V>(team, arguments);
}

template <typename T>
Kernels kernels_of() {
  constexpr int V = kFullVector<T>;
  constexpr Layout kLinear = Layout::kLinear;
  constexpr Layout kLast = Layout::kChannelsLast;
  return {
      {{fused_kernel<T, kLinear, 1>, fused_kernel<T, kLinear, V>},
       {fused_kernel<T, kLast, 1>, fused_kernel<T, kLast, V>}},
      {{statistics_kernel<T, kLinear, 1>, statistics_kernel<T, kLinear, V>},
       {statistics_kernel<T, kLast, 1>, statistics_kernel<T, kLast, V>}},
      {{normalize_kernel<T, kLinear, 1>, normalize_kernel<T, kLinear, V>},
       {normalize_kernel<T, kLast, 1>, normalize_kernel<T, kLast, V>}},
      {row_kernel<T, 1>, row_kernel<T, V>},
  };
}

}  // namespace
}  // namespace sn_deploy::cuda
