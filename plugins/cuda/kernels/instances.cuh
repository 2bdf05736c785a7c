// Makes one element type's kernels. Included by one file for each type, which then compile side by side.
#pragma once

#include "cuda/kernels/bodies.h"
#include "cuda/kernels/device_fetch.h"
#include "cuda/kernels/device_team.h"
#include "cuda/kernels/instances.h"
#include "cuda/kernels/queue.h"

namespace sn_deploy::cuda {
namespace {

inline constexpr int kTwoKernelsThreads = 256;
inline constexpr int kTwoKernelsBlocks =
    3;  // on a multiprocessor: 80 registers a thread, spilled at most outside of loops over X

template <typename T, Layout kLayout, Epilogue kEpilogue, Form kForm, int V>
__global__ void __launch_bounds__(kMaxThreads) fused_kernel(const __grid_constant__ Arguments arguments) {
  DeviceTeam team;
  fused<T, kLayout, kEpilogue, kForm, V>(team, arguments);
}

template <typename T, Layout kLayout, bool kResident, int V>
__global__ void __launch_bounds__(kTwoKernelsThreads) statistics_kernel(const __grid_constant__ Arguments arguments) {
  DeviceTeam team;
  statistics<T, kLayout, kResident, V>(team, arguments);
}

template <typename T, Layout kLayout, Epilogue kEpilogue, int V>
__global__ void __launch_bounds__(kTwoKernelsThreads, kTwoKernelsBlocks)
    normalize_kernel(const __grid_constant__ Arguments arguments) {
  DeviceTeam team;
  normalize<T, kLayout, kEpilogue, V>(team, arguments);
}

template <typename T>
__global__ void __launch_bounds__(kTwoKernelsThreads) zero_kernel(const __grid_constant__ Arguments arguments) {
  DeviceTeam team;
  zero(team, arguments);
}

template <typename T, Layout kLayout, Epilogue kEpilogue>
__global__ void __launch_bounds__(kTwoKernelsThreads, kQueueBlocks)
    queue_kernel(const __grid_constant__ Arguments arguments) {
  DeviceTeam team;
  queue<T, kLayout, kEpilogue, kFullVector<T>>(team, arguments);
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
  kernels->fused[0][epilogue][layout][1] = fused_kernel<T, kLayout, kEpilogue, Form::kRead, V>;
  kernels->fused[1][epilogue][layout][0] = fused_kernel<T, kLayout, kEpilogue, Form::kKeptByChannels, 1>;
  kernels->fused[1][epilogue][layout][1] = fused_kernel<T, kLayout, kEpilogue, Form::kKeptByChannels, V>;
  kernels->fused[2][epilogue][layout][0] = fused_kernel<T, kLayout, kEpilogue, Form::kKeptByPositions, 1>;
  kernels->fused[2][epilogue][layout][1] = fused_kernel<T, kLayout, kEpilogue, Form::kKeptByPositions, V>;
  kernels->normalize[epilogue][layout][0] = normalize_kernel<T, kLayout, kEpilogue, 1>;
  kernels->normalize[epilogue][layout][1] = normalize_kernel<T, kLayout, kEpilogue, V>;
  kernels->queue[epilogue][layout] = queue_kernel<T, kLayout, kEpilogue>;
}

template <typename T, Layout kLayout>
void fill(Kernels* kernels) {
  fill<T, kLayout, Epilogue::kNone>(kernels);
  fill<T, kLayout, Epilogue::kRelu>(kernels);
  fill<T, kLayout, Epilogue::kAddRelu>(kernels);
  constexpr int V = kFullVector<T>;
  const auto layout = static_cast<int>(kLayout);
  kernels->statistics[0][layout][0] = statistics_kernel<T, kLayout, false, 1>;
  kernels->statistics[0][layout][1] = statistics_kernel<T, kLayout, false, V>;
  kernels->statistics[1][layout][0] = statistics_kernel<T, kLayout, true, 1>;
  kernels->statistics[1][layout][1] = statistics_kernel<T, kLayout, true, V>;
}

template <typename T>
Kernels kernels_of() {
  Kernels kernels = {};
  fill<T, Layout::kLinear>(&kernels);
  fill<T, Layout::kChannelsLast>(&kernels);
  kernels.zero = zero_kernel<T>;
  kernels.row[0] = row_kernel<T, 1>;
  kernels.row[1] = row_kernel<T, kFullVector<T>>;
  return kernels;
}

}  // namespace
}  // namespace sn_deploy::cuda
