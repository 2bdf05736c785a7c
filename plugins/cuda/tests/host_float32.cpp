#include "cuda/tests/host_instances.h"
#include "cuda/tests/host_kernels.h"

namespace sn_deploy::cuda::test {

void run_float32(const Launch& launch) { run_type<float>(launch); }

}  // namespace sn_deploy::cuda::test
