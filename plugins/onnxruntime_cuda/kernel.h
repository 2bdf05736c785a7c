// A node on the CUDA provider: validate, launch on the provider's stream, translate the status.
#pragma once

#include "onnxruntime/node.h"
#include "sn_deploy/cuda.h"

namespace sn_deploy::ort {

class CudaKernel {
 public:
  // Reads the node's attributes, and refuses those that would be wrong for every input. `kernel` is the caller's to
  // delete.
  static OrtStatus* create(const OrtApi* api, const OrtKernelInfo* info, const Kind& kind, CudaKernel** kernel);

  // Neither waits for the device nor allocates of CUDA, so a run can be captured into a graph. Thread-safe: several
  // runs of a session may call it at once.
  OrtStatus* compute(OrtKernelContext* context) const;

 private:
  OrtStatus* launch(OrtKernelContext* context, const SnCudaProblem& problem, const SnCudaTensors& tensors,
                    SnCudaTactic tactic, std::int32_t* result) const;
  OrtStatus* refuse(std::int32_t result) const;

  Node node_;
};

}  // namespace sn_deploy::ort
