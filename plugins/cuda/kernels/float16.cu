#include "cuda/kernels/instances.cuh"

namespace sn_deploy::cuda {

Kernels float16_kernels() { return kernels_of<__half>(); }

}  // namespace sn_deploy::cuda
