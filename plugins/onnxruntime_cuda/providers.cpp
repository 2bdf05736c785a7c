// The providers of libsn_deploy_ort_cuda.so: the CUDA provider, and all of libsn_deploy_ort.so for nodes that are
// placed on the CPU.
#include "onnxruntime/kernel.h"
#include "onnxruntime/provider.h"
#include "onnxruntime_cuda/kernel.h"

namespace sn_deploy::ort {

Providers providers() {
  static constexpr Provider kProviders[] = {provider_of<Kernel>("CPUExecutionProvider"),
                                            provider_of<Kernel>("CPUExecutionProvider", true),
                                            provider_of<CudaKernel>("CUDAExecutionProvider")};
  return {kProviders, 3};
}

}  // namespace sn_deploy::ort
