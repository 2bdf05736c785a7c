#include "cuda/tests/host_kernels.h"

#include "cuda/kernels/bodies.h"
#include "cuda/tests/host_grid.h"

namespace sn_deploy::cuda::test {
namespace {

template <typename T, Layout kLayout, int V>
void run_kernel(const Launch& launch) {
  run(launch, [&launch](HostTeam& team) {
    switch (launch.kind) {
      case KernelKind::kFused:
        return fused<T, kLayout, V>(team, launch.arguments);
      case KernelKind::kStatistics:
        return statistics<T, kLayout, V>(team, launch.arguments);
      case KernelKind::kNormalize:
        return normalize<T, kLayout, V>(team, launch.arguments);
      case KernelKind::kRow:
        return row<T, V>(team, launch.arguments);
    }
  });
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

}  // namespace

void run(const Launch& launch) {
  switch (launch.type) {
    case DataType::kFloat32:
      return run_type<float>(launch);
    case DataType::kFloat16:
      return run_type<__half>(launch);
    case DataType::kBfloat16:
      return run_type<__nv_bfloat16>(launch);
  }
}

}  // namespace sn_deploy::cuda::test
