#include "cuda/kernels/instances.cuh"

namespace sn_deploy::cuda {

Kernels float32_kernels() { return kernels_of<float>(); }

}  // namespace sn_deploy::cuda
