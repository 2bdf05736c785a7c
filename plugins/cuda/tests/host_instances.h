// Makes one element type's kernels for the host. Included by one file for each type, which then compile side by side.
#pragma once

#include "cuda/kernels/bodies.h"
#include "cuda/kernels/queue.h"
#include "cuda/tests/host_grid.h"

namespace sn_deploy::cuda::test {

template <typename T, Layout kLayout, Epilogue kEpilogue, int V>
void run_kernel(const Launch& launch) {
  run(launch, [&launch](HostTeam& team) {
    const Arguments& a = launch.arguments;
    switch (launch.kind) {
      case KernelKind::kFused:
        switch (form_of(launch.resident, a)) {
          case Form::kRead:
            return fused<T, kLayout, kEpilogue, Form::kRead, V>(team, a);
          case Form::kKeptByChannels:
            return fused<T, kLayout, kEpilogue, Form::kKeptByChannels, V>(team, a);
          case Form::kKeptByPositions:
            return fused<T, kLayout, kEpilogue, Form::kKeptByPositions, V>(team, a);
        }
        return;
      case KernelKind::kStatistics:
        return launch.resident ? statistics<T, kLayout, true, V>(team, a) : statistics<T, kLayout, false, V>(team, a);
      case KernelKind::kNormalize:
        return normalize<T, kLayout, kEpilogue, V>(team, a);
      case KernelKind::kRow:
        return row<T, V>(team, a);
      case KernelKind::kZero:
        return zero(team, a);
      case KernelKind::kQueue:
        if constexpr (V > 1) queue<T, kLayout, kEpilogue, V>(team, a);
        return;
    }
  });
}

template <typename T, Layout kLayout, int V>
void run_kernel(const Launch& launch) {
  switch (static_cast<Epilogue>(launch.arguments.epilogue)) {
    case Epilogue::kNone:
      return run_kernel<T, kLayout, Epilogue::kNone, V>(launch);
    case Epilogue::kRelu:
      return run_kernel<T, kLayout, Epilogue::kRelu, V>(launch);
    case Epilogue::kAddRelu:
      return run_kernel<T, kLayout, Epilogue::kAddRelu, V>(launch);
  }
}

template <typename T>
void run_type(const Launch& launch) {
  constexpr int V = kFullVector<T>;
  if (launch.layout == Layout::kLinear) {
    return launch.vector ? run_kernel<T, Layout::kLinear, V>(launch) : run_kernel<T, Layout::kLinear, 1>(launch);
  }
  return launch.vector ? run_kernel<T, Layout::kChannelsLast, V>(launch)
                       : run_kernel<T, Layout::kChannelsLast, 1>(launch);
}

}  // namespace sn_deploy::cuda::test
