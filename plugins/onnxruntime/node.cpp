#include "onnxruntime/node.h"

#include <cinttypes>
#include <cstdint>
#include <cstdio>
#include <cstring>

#include "core/blocked.h"

namespace sn_deploy::ort {
namespace {

constexpr std::size_t kMaxRank = 16;
constexpr const char* kInputNames[] = {"X", "scale", "bias", "mean_offset", "var_offset", "residual"};

struct Shape {
  std::size_t rank = 0;
  std::int64_t extents[kMaxRank] = {};

  bool operator==(const Shape& other) const {
    bool same = rank == other.rank;
    for (std::size_t axis = 0; same && axis < rank; ++axis) same = extents[axis] == other.extents[axis];
    return same;
  }
};

// "(2, 64, 56, 56)", for messages.
struct ShapeText {
  char text[160] = "(";

  explicit ShapeText(const Shape& shape) {
    std::size_t length = 1;
    for (std::size_t axis = 0; axis < shape.rank && length < sizeof text - 24; ++axis) {
      const char* separator = axis == 0 ? "" : ", ";
      const int written =
          std::snprintf(text + length, sizeof text - length, "%s%" PRId64, separator, shape.extents[axis]);
      if (written > 0) length += static_cast<std::size_t>(written);
    }
    std::snprintf(text + length, sizeof text - length, ")");
  }
};

OrtStatus* read_float(const Where& where, const OrtKernelInfo* info, const char* name, float* value) {
  if (OrtStatus* status = where.api->KernelInfoGetAttribute_float(info, name, value)) {
    where.api->ReleaseStatus(status);
    return invalid(where, "the attribute %s is missing, or no float", name);
  }
  return nullptr;
}

// Channels in a block of ONNX Runtime's own operators on this processor; 0 where that isn't known here.
std::int64_t block_here() {
#if defined(__x86_64__)
  return __builtin_cpu_supports("avx512f") ? 16 : 8;
#else
  return 0;
#endif
}

// Of ONNX Runtime, "1.32.0", and of its Python package, maybe "1.32.0.dev1".
bool same_version(const char* runtime, const char* package) {
  const std::size_t length = std::strlen(runtime);
  return std::strncmp(runtime, package, length) == 0 && !(package[length] >= '0' && package[length] <= '9');
}

struct InputTensor {
  const void* data = nullptr;
  Shape shape;
};

OrtStatus* read_input(const Where& where, OrtKernelContext* context, std::size_t index, InputTensor* input) {
  const OrtApi* api = where.api;
  const OrtValue* value = nullptr;
  SN_RETURN_IF_ERROR(api->KernelContext_GetInput(context, index, &value));
  if (value == nullptr) return invalid(where, "the input %s is missing", kInputNames[index]);
  Owned<OrtTensorTypeAndShapeInfo> info(api->ReleaseTensorTypeAndShapeInfo);
  SN_RETURN_IF_ERROR(api->GetTensorTypeAndShape(value, info.out()));
  SN_RETURN_IF_ERROR(api->GetDimensionsCount(info.get(), &input->shape.rank));
  if (input->shape.rank > kMaxRank) {
    return invalid(where, "the input %s has rank %zu; expected at most %zu", kInputNames[index], input->shape.rank,
                   kMaxRank);
  }
  SN_RETURN_IF_ERROR(api->GetDimensions(info.get(), input->shape.extents, input->shape.rank));
  void* data = nullptr;  // the API has no reader for a const value before 1.23
  SN_RETURN_IF_ERROR(api->GetTensorMutableData(const_cast<OrtValue*>(value), &data));
  input->data = data;
  return nullptr;
}

}  // namespace

OrtStatus* Node::read(const OrtApi* api, const OrtKernelInfo* info, const Kind& kind) {
  api_ = api;
  kind_ = kind;
  std::size_t size = sizeof name_;
  if (OrtStatus* status = api_->KernelInfo_GetNodeName(info, name_, &size)) {
    api_->ReleaseStatus(status);  // longer than we keep: the message does without
    name_[0] = '\0';
  }
  SN_RETURN_IF_ERROR(read_float(where(), info, "mean_in", &attributes_.mean_in));
  SN_RETURN_IF_ERROR(read_float(where(), info, "mean_ln", &attributes_.mean_ln));
  SN_RETURN_IF_ERROR(read_float(where(), info, "var_in", &attributes_.var_in));
  SN_RETURN_IF_ERROR(read_float(where(), info, "var_ln", &attributes_.var_ln));
  const Status finite = check_weights(attributes_.mean_in, attributes_.mean_ln, attributes_.var_in, attributes_.var_ln);
  if (finite != Status::kOk) return invalid(where(), "%s", reason(finite));

  std::int64_t ddof = 0;
  if (OrtStatus* status = api_->KernelInfoGetAttribute_int64(info, "ddof", &ddof)) {
    api_->ReleaseStatus(status);
    return invalid(where(), "the attribute ddof is missing, or no int");
  }
  if (ddof != 0 && ddof != 1) return invalid(where(), "%s, not %" PRId64, reason(Status::kDdof), ddof);
  attributes_.ddof = static_cast<int>(ddof);
  return kind_.blocked ? read_block(info) : nullptr;
}

OrtStatus* Node::read_block(const OrtKernelInfo* info) {
  if (OrtStatus* status = api_->KernelInfoGetAttribute_int64(info, "block_size", &attributes_.block)) {
    api_->ReleaseStatus(status);
    return invalid(where(), "the attribute block_size is missing, or no int");
  }
  if (attributes_.block == 8 || attributes_.block == 16) return check_origin(info);
  return invalid(where(), "%s, not %" PRId64, reason(Status::kBlockSize), attributes_.block);
}

// A file of `sn-deploy optimise` says with which version it was made. Its tensors are in the layout that ONNX Runtime
// had there, and nothing else would tell a program that only loads it: the numbers would be wrong.
OrtStatus* Node::check_origin(const OrtKernelInfo* info) const {
  char made_with[64] = "";
  std::size_t size = sizeof made_with;
  if (OrtStatus* status = api_->KernelInfoGetAttribute_string(info, "onnxruntime", made_with, &size)) {
    api_->ReleaseStatus(status);
    return nullptr;
  }
  constexpr const char* kMend = "run the portable file that it was made of, or make it anew here (sn-deploy optimise)";
  if (kind_.runtime != nullptr && !same_version(kind_.runtime, made_with)) {
    return invalid(where(), "the file was made for ONNX Runtime %s, and this is %s; %s", made_with, kind_.runtime,
                   kMend);
  }
  const std::int64_t here = block_here();
  if (here == 0 || here == attributes_.block) return nullptr;
  return invalid(where(),
                 "the file was made for another processor: it has blocks of %" PRId64
                 " channels, and ONNX Runtime has blocks of %" PRId64 " on this one; %s",
                 attributes_.block, here, kMend);
}

OrtStatus* Node::read_tensors(OrtKernelContext* context, Problem* problem, Tensors* tensors) const {
  InputTensor x;
  SN_RETURN_IF_ERROR(read_input(where(), context, kX, &x));
  const float* parameters[4] = {};
  std::int64_t channels = -1;  // no parameter's length
  for (std::size_t i = 0; i < 4; ++i) {
    InputTensor parameter;
    SN_RETURN_IF_ERROR(read_input(where(), context, kScale + i, &parameter));
    const std::int64_t length = parameter.shape.rank == 1 ? parameter.shape.extents[0] : -1;
    if (length < 0 || (i > 0 && length != channels)) {
      return invalid(where(), "%s has shape %s and X %s; %s", kInputNames[kScale + i], ShapeText(parameter.shape).text,
                     ShapeText(x.shape).text, reason(Status::kChannelMismatch));
    }
    channels = length;
    parameters[i] = static_cast<const float*>(parameter.data);
  }
  const auto rank = static_cast<std::int64_t>(x.shape.rank);
  const Attributes& a = attributes_;
  const Status status = kind_.blocked
                            ? problem_from_blocked_shape(x.shape.extents, rank, channels, a.block, a.ddof, problem)
                            : problem_from_shape(x.shape.extents, rank, channels, kind_.type, a.ddof, problem);
  if (status != Status::kOk) {
    return invalid(where(), "X has shape %s, the parameters (%" PRId64 "), ddof is %d: %s", ShapeText(x.shape).text,
                   channels, attributes_.ddof, reason(status));
  }
  InputTensor residual;
  if (kind_.epilogue == Epilogue::kAddRelu) {
    SN_RETURN_IF_ERROR(read_input(where(), context, kResidual, &residual));
    if (!(residual.shape == x.shape)) {
      return invalid(where(), "X has shape %s and the residual %s; %s", ShapeText(x.shape).text,
                     ShapeText(residual.shape).text, reason(Status::kResidualMismatch));
    }
  }
  OrtValue* y = nullptr;
  SN_RETURN_IF_ERROR(api_->KernelContext_GetOutput(context, 0, x.shape.extents, x.shape.rank, &y));
  void* data = nullptr;
  SN_RETURN_IF_ERROR(api_->GetTensorMutableData(y, &data));
  *tensors = {x.data, {parameters[0], parameters[1], parameters[2], parameters[3]}, residual.data, data};
  return nullptr;
}

}  // namespace sn_deploy::ort
