// What a node's kernel is on any provider: the node's attributes, and one run's tensors, checked and as plain pointers.
#pragma once

#include <cstddef>
#include <cstdint>

#include "core/problem.h"
#include "core/switch_norm.h"
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
  bool blocked;         // kBlockedDomain's
  const char* runtime;  // ONNX Runtime's version; null where it isn't known
};

// The operator's attributes.
struct Attributes {
  float mean_in, mean_ln, var_in, var_ln;
  int ddof;
  std::int64_t block;  // of kBlockedDomain's operators: 8 or 16 channels; else 0
};

// Where the provider keeps them.
struct Tensors {
  const void* x;
  const float* parameters[4];  // scale, bias, mean_offset, var_offset
  const void* residual;        // null but for kAddRelu
  void* y;
};

class Node {
 public:
  // Reads the attributes, and refuses those that would be wrong for every input.
  OrtStatus* read(const OrtApi* api, const OrtKernelInfo* info, const Kind& kind);

  // One run's problem and tensors, with Y allocated; a status with the shapes in it where they don't fit.
  OrtStatus* read_tensors(OrtKernelContext* context, Problem* problem, Tensors* tensors) const;

  const OrtApi* api() const { return api_; }
  Epilogue epilogue() const { return kind_.epilogue; }
  const Attributes& attributes() const { return attributes_; }
  Where where() const { return {api_, kind_.op, name_, kind_.blocked ? kBlockedDomain : kDomain}; }

 private:
  OrtStatus* read_block(const OrtKernelInfo* info);
  OrtStatus* check_origin(const OrtKernelInfo* info) const;

  const OrtApi* api_ = nullptr;
  Kind kind_ = {};
  char name_[256] = "";
  Attributes attributes_ = {};
};

}  // namespace sn_deploy::ort
