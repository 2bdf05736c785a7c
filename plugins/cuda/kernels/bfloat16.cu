#include "cuda/kernels/instances.cuh"

namespace sn_deploy::cuda {

Kernels bfloat16_kernels() { return kernels_of<__nv_bfloat16>(); }

}  // namespace sn_deploy::cuda
