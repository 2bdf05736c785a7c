#include "cuda/tests/host_kernels.h"

#include "cuda/kernels/bodies.h"
#include "cuda/tests/host_grid.h"

namespace sn_deploy::cuda::test {
namespace {

template <typename T, Layout kLayout, Epilogue kEpilogue, int V>
void run_kernel(const Launch& launch) {
  run(launch, [&launch](HostTeam& team) {
    const Arguments& a = launch.arguments;
    switch (launch.kind) {
      case KernelKind::kFused:
        return launch.resident ? fused<T, kLayout, kEpilogue, true, V>(team, a)
                               : fused<T, kLayout, kEpilogue, false, V>(team, a);
      case KernelKind::kStatistics:
        return statistics<T, kLayout, V>(team, a);
      case KernelKind::kNormalize:
        return normalize<T, kLayout, kEpilogue, V>(team, a);
      case KernelKind::kRow:
        return row<T, V>(team, a);
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
