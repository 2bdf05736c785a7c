// A node on the CPU provider: validate, forward, translate the status.
#pragma once

#include "cpu/switch_norm.h"
#include "onnxruntime/node.h"

namespace sn_deploy::ort {

class Kernel {
 public:
  // Reads the node's attributes, and refuses those that would be wrong for every input. `kernel` is the caller's to
  // delete.
  static OrtStatus* create(const OrtApi* api, const OrtKernelInfo* info, const Kind& kind, Kernel** kernel);

  // Thread-safe: several runs of a session may call it at once.
  OrtStatus* compute(OrtKernelContext* context) const;

 private:
  Node node_;
};

}  // namespace sn_deploy::ort
