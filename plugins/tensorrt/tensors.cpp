#include "tensorrt/tensors.h"

#include "tensorrt/log.h"

namespace sn_deploy::tensorrt {

using nvinfer1::Dims;
using nvinfer1::PluginTensorDesc;
using nvinfer1::TensorFormat;

namespace {

constexpr std::int64_t kPaddedTo = 8;  // kHWC8, kDHWC8

bool refuse(const Op& op, Status status) {
  log_error("%s: %s", op.name, reason(status));
  return false;
}

bool same_extents(const Dims& a, const Dims& b) {
  if (a.nbDims != b.nbDims) return false;
  for (std::int32_t axis = 0; axis < a.nbDims; ++axis) {
    if (a.d[axis] != b.d[axis]) return false;
  }
  return true;
}

// C by the parameters, or -1 where they disagree.
std::int64_t parameter_channels(const PluginTensorDesc* inputs) {
  const std::int64_t channels = inputs[kFirstParameter].dims.nbDims == 1 ? inputs[kFirstParameter].dims.d[0] : -1;
  for (std::int32_t i = kFirstParameter; i <= kLastParameter; ++i) {
    if (inputs[i].dims.nbDims != 1 || inputs[i].dims.d[0] != channels) return -1;
  }
  return channels;
}

// Padding as TensorRT lays it out.
std::int64_t stored_channels(TensorFormat format, std::int64_t channels) {
  switch (format) {
    case TensorFormat::kHWC:
    case TensorFormat::kDHWC:
      return channels;
    case TensorFormat::kHWC8:
    case TensorFormat::kDHWC8:
      return divide_up(channels, kPaddedTo) * kPaddedTo;
    default:
      return 0;
  }
}

}  // namespace

bool supports(nvinfer1::DataType type, TensorFormat format, std::int32_t rank) noexcept {
  DataType ours;
  if (!data_type_from_trt(type, &ours)) return false;
  const bool half = ours != DataType::kFloat32;
  switch (format) {
    case TensorFormat::kLINEAR:
      return true;
    case TensorFormat::kHWC:
      return rank == 4 && !half;
    case TensorFormat::kDHWC:
      return rank == 5 && !half;
    case TensorFormat::kHWC8:
      return rank == 4 && half;
    case TensorFormat::kDHWC8:
      return rank == 5 && half;
    default:
      return false;
  }
}

bool data_type_from_trt(nvinfer1::DataType type, DataType* result) noexcept {
  switch (type) {
    case nvinfer1::DataType::kFLOAT:
      *result = DataType::kFloat32;
      return true;
    case nvinfer1::DataType::kHALF:
      *result = DataType::kFloat16;
      return true;
    case nvinfer1::DataType::kBF16:
      *result = DataType::kBfloat16;
      return true;
    default:
      return false;
  }
}

bool problem_from_tensors(const Op& op, const Attributes& attributes, const PluginTensorDesc* inputs,
                          std::int32_t input_count, SnCudaProblem* problem) noexcept {
  if (inputs == nullptr || input_count != op.inputs()) {
    log_error("%s: %d inputs; expected %d", op.name, input_count, op.inputs());
    return false;
  }
  const PluginTensorDesc& x = inputs[kX];
  DataType type;
  if (!data_type_from_trt(x.type, &type) || !supports(x.type, x.format, x.dims.nbDims)) {
    return refuse(op, Status::kDataType);
  }
  Problem checked;
  const Status status =
      problem_from_shape(x.dims.d, x.dims.nbDims, parameter_channels(inputs), type, attributes.ddof, &checked);
  if (status != Status::kOk) return refuse(op, status);
  if (op.epilogue == Epilogue::kAddRelu && !same_extents(x.dims, inputs[kResidual].dims)) {
    return refuse(op, Status::kResidualMismatch);
  }
  SnCudaProblem result = {};
  result.batch = checked.batch;
  result.channels = checked.channels;
  result.spatial = checked.spatial;
  result.stored_channels = stored_channels(x.format, checked.channels);
  result.has_in = checked.has_in ? 1 : 0;
  result.ddof = checked.ddof;
  result.data_type = static_cast<std::int32_t>(type);
  result.layout = x.format == TensorFormat::kLINEAR ? 0 : 1;
  result.epilogue = static_cast<std::int32_t>(op.epilogue);
  result.mean_in = attributes.mean_in;
  result.mean_ln = attributes.mean_ln;
  result.var_in = attributes.var_in;
  result.var_ln = attributes.var_ln;
  *problem = result;
  return true;
}

}  // namespace sn_deploy::tensorrt
