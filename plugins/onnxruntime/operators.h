// The three operators as ONNX Runtime sees them: names, types, shapes.
#pragma once

#include "core/problem.h"
#include "core/switch_norm.h"
#include "onnxruntime/api.h"
#include "onnxruntime/provider.h"

namespace sn_deploy::ort {

struct Operator : OrtCustomOp {
  const OrtApi* api;  // shape inference is handed none
  const Provider* provider;
  const char* name;
  Epilogue epilogue;
  DataType type;
  const char* runtime;  // ONNX Runtime's version; null where it isn't known
};

// Three, each for three types: ONNX Runtime makes one schema of those with the same name. A single one with its types
// left open would do for it from 1.19 on, but before it allows one open input only.
constexpr int kOperators = 9;

// Those of one provider; how many they are, at most kOperators. `provider` and `operators` must outlive every session
// that they are registered with.
int make_operators(const OrtApi* api, const Provider& provider, Operator* operators);

}  // namespace sn_deploy::ort
