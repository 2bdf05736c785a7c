#include "cuda/tests/host_kernels.h"

namespace sn_deploy::cuda::test {

void run(const Launch& launch) {
  switch (launch.type) {
    case DataType::kFloat32:
      return run_float32(launch);
    case DataType::kFloat16:
      return run_float16(launch);
    case DataType::kBfloat16:
      return run_bfloat16(launch);
  }
}

}  // namespace sn_deploy::cuda::test
