// The state of one node, and its computation: validate, forward, translate the status.
#pragma once

#include <cstddef>

#include "core/problem.h"
#include "core/switch_norm.h"
#include "cpu/switch_norm.h"
#include "onnxruntime/api.h"
#include "onnxruntime/status.h"

namespace sn_deploy::ort {

// The operator's inputs, in their order.
enum Input : std::size_t { kX = 0, kScale, kBias, kMeanOffset, kVarOffset, kResidual };

// What the operator's registration says.
struct Kind {
  const char* op;
  Epilogue epilogue;
  DataType type;
};

class Kernel {
 public:
  // Reads the node's attributes, and refuses those that would be wrong for every input. `kernel` is the caller's to
  // delete.
  static OrtStatus* create(const OrtApi* api, const OrtKernelInfo* info, const Kind& kind, Kernel** kernel);

  // Thread-safe: several runs of a session may call it at once.
  OrtStatus* compute(OrtKernelContext* context) const;

 private:
  OrtStatus* read(const OrtKernelInfo* info);
  OrtStatus* read_inputs(OrtKernelContext* context, Problem* problem, cpu::Tensors* tensors) const;
  Where where() const { return {api_, kind_.op, name_}; }

  const OrtApi* api_ = nullptr;
  Kind kind_ = {};
  char name_[256] = "";
  cpu::Weights weights_ = {};
  int ddof_ = 0;
};

}  // namespace sn_deploy::ort
