// A plugin's attributes, to and from TensorRT's fields.
#pragma once

#include <NvInferRuntime.h>

#include <cstdint>

namespace sn_deploy::tensorrt {

// The operator's attributes (sn_deploy/graph/op.py).
struct Attributes {
  float mean_in = 0.0F;
  float mean_ln = 0.0F;
  float var_in = 0.0F;
  float var_ln = 0.0F;
  std::int32_t ddof = 1;
};

inline constexpr std::int32_t kFieldCount = 5;

// Fields that point into `attributes`: their names and types for a creator, their values for an engine.
void describe(const Attributes& attributes, nvinfer1::PluginField (&fields)[kFieldCount]) noexcept;

// Reads all attributes. TensorRT checks nothing here, and only warns of an attribute that an ONNX node lacks; so this
// refuses, with the reason in the log, a field that is missing, unknown, given twice, of another type or length than
// one value, without data, or not finite, and a ddof that is neither 0 nor 1. `attributes` is set only with true.
bool parse(const char* op, const nvinfer1::PluginFieldCollection* collection, Attributes* attributes) noexcept;

}  // namespace sn_deploy::tensorrt
