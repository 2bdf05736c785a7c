#include "cuda/tests/host_instances.h"
#include "cuda/tests/host_kernels.h"

namespace sn_deploy::cuda::test {

void run_bfloat16(const Launch& launch) { run_type<__nv_bfloat16>(launch); }

}  // namespace sn_deploy::cuda::test
