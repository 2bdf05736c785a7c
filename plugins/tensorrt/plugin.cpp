#include "tensorrt/plugin.h"

#include <algorithm>
#include <cstdio>
#include <new>

#include "tensorrt/log.h"
#include "tensorrt/tensors.h"

namespace sn_deploy::tensorrt {

using nvinfer1::DynamicPluginTensorDesc;
using nvinfer1::IPluginCapability;
using nvinfer1::IPluginV3;
using nvinfer1::PluginCapabilityType;
using nvinfer1::PluginFieldCollection;
using nvinfer1::PluginTensorDesc;

namespace {

constexpr std::int32_t kSuccess = 0;
constexpr std::int32_t kFailure = 1;
constexpr std::int32_t kMaxInputs = 6;
constexpr std::int32_t kMaxTactics = 16;

constexpr std::int32_t as_int(Status status) { return static_cast<std::int32_t>(status); }

// The inputs of a profile at its largest or best shape.
using Extents = nvinfer1::Dims DynamicPluginTensorDesc::*;

bool problem_at(const Op& op, const Attributes& attributes, const DynamicPluginTensorDesc* inputs,
                std::int32_t input_count, Extents extents, SnCudaProblem* problem) {
  if (inputs == nullptr || input_count > kMaxInputs) {
    log_error("%s: %d inputs; expected %d", op.name, input_count, op.inputs());
    return false;
  }
  PluginTensorDesc tensors[kMaxInputs] = {};
  for (std::int32_t i = 0; i < input_count; ++i) {
    tensors[i] = inputs[i].desc;
    tensors[i].dims = inputs[i].*extents;
  }
  return problem_from_tensors(op, attributes, tensors, input_count, problem);
}

// The workspace of C channels may be too small for fewer (core/plan.h), and enqueue isn't told what it was given.
bool has_one_length(const Op& op, const DynamicPluginTensorDesc& parameter) {
  if (parameter.desc.dims.d[0] >= 0 || parameter.min.d[0] == parameter.max.d[0]) return true;
  log_error("%s: the parameters' length goes from %lld to %lld in one profile; C has to be the same throughout",
            op.name, static_cast<long long>(parameter.min.d[0]), static_cast<long long>(parameter.max.d[0]));
  return false;
}

bool check_count(const Op& op, const char* what, std::int32_t count, std::int32_t expected) {
  if (count == expected) return true;
  log_error("%s: %d %s; expected %d", op.name, count, what, expected);
  return false;
}

// An extent that is known while the network is built, or -1.
std::int64_t known_extent(const nvinfer1::DimsExprs& shape, std::int32_t axis) {
  const nvinfer1::IDimensionExpr* extent = shape.d[axis];
  return extent != nullptr && extent->isConstant() ? extent->getConstantValue() : -1;
}

// Checks as much of X's shape as is known; an unknown extent is taken for one that fits.
Status check_known_extents(const Attributes& attributes, const nvinfer1::DimsExprs& x, std::int64_t channels) {
  constexpr std::int64_t kAny = 2;  // enough for a variance
  std::int64_t extents[nvinfer1::Dims::MAX_DIMS] = {};
  const std::int64_t own = x.nbDims > 1 ? known_extent(x, 1) : -1;
  for (std::int32_t axis = 0; axis < x.nbDims; ++axis) {
    const std::int64_t known = known_extent(x, axis);
    extents[axis] = known >= 0 ? known : kAny;
  }
  if (x.nbDims > 1 && own < 0 && channels >= 0) extents[1] = channels;
  Problem problem;
  return problem_from_shape(extents, x.nbDims, channels >= 0 ? channels : extents[1], DataType::kFloat32,
                            attributes.ddof, &problem);
}

// Whether the residual has X's shape, as far as both are known.
bool may_be_same(const nvinfer1::DimsExprs& x, const nvinfer1::DimsExprs& residual) {
  bool same = residual.nbDims == x.nbDims;
  for (std::int32_t axis = 0; same && axis < x.nbDims; ++axis) {
    const std::int64_t own = known_extent(x, axis);
    const std::int64_t other = known_extent(residual, axis);
    same = own < 0 || other < 0 || own == other;
  }
  return same;
}

}  // namespace

SwitchNormPlugin::SwitchNormPlugin(const Op& op, const Attributes& attributes) noexcept
    : op_(op), attributes_(attributes) {
  describe(attributes_, fields_);
  collection_ = {kFieldCount, fields_};
  std::snprintf(metadata_, sizeof metadata_, "mean_in=%.9g mean_ln=%.9g var_in=%.9g var_ln=%.9g ddof=%d",
                static_cast<double>(attributes_.mean_in), static_cast<double>(attributes_.mean_ln),
                static_cast<double>(attributes_.var_in), static_cast<double>(attributes_.var_ln), attributes_.ddof);
}

// Not the default: fields_ points into the object.
SwitchNormPlugin::SwitchNormPlugin(const SwitchNormPlugin& other) noexcept
    : SwitchNormPlugin(other.op_, other.attributes_) {
  configured_ = other.configured_;
  tactic_ = other.tactic_;
}

IPluginCapability* SwitchNormPlugin::getCapabilityInterface(PluginCapabilityType type) noexcept {
  switch (type) {
    case PluginCapabilityType::kCORE:
      return static_cast<nvinfer1::IPluginV3OneCore*>(this);
    case PluginCapabilityType::kBUILD:
      return static_cast<nvinfer1::IPluginV3OneBuildV2*>(this);
    case PluginCapabilityType::kRUNTIME:
      return static_cast<nvinfer1::IPluginV3OneRuntime*>(this);
  }
  return nullptr;
}

IPluginV3* SwitchNormPlugin::clone() noexcept {
  IPluginV3* copy = new (std::nothrow) SwitchNormPlugin(*this);
  if (copy == nullptr) log_error("%s: out of memory", op_.name);
  return copy;
}

const char* SwitchNormPlugin::getPluginName() const noexcept { return op_.name; }
const char* SwitchNormPlugin::getPluginVersion() const noexcept { return kVersion; }
const char* SwitchNormPlugin::getPluginNamespace() const noexcept { return kNamespace; }

// --- Build --------------------------------------------------------------------------------------------------------

std::int32_t SwitchNormPlugin::configurePlugin(const DynamicPluginTensorDesc* inputs, std::int32_t input_count,
                                               const DynamicPluginTensorDesc*, std::int32_t) noexcept {
  SnCudaProblem largest;
  const bool valid = problem_at(op_, attributes_, inputs, input_count, &DynamicPluginTensorDesc::max, &largest) &&
                     problem_at(op_, attributes_, inputs, input_count, &DynamicPluginTensorDesc::opt, &configured_) &&
                     has_one_length(op_, inputs[kFirstParameter]);
  return valid ? kSuccess : kFailure;
}

std::int32_t SwitchNormPlugin::getOutputDataTypes(nvinfer1::DataType* output_types, std::int32_t output_count,
                                                  const nvinfer1::DataType* input_types,
                                                  std::int32_t input_count) const noexcept {
  if (!check_count(op_, "inputs", input_count, op_.inputs()) || !check_count(op_, "outputs", output_count, 1)) {
    return kFailure;
  }
  DataType type;
  bool valid = data_type_from_trt(input_types[kX], &type);
  for (std::int32_t i = kFirstParameter; i <= kLastParameter; ++i) {
    valid = valid && input_types[i] == nvinfer1::DataType::kFLOAT;
  }
  if (op_.epilogue == Epilogue::kAddRelu) valid = valid && input_types[kResidual] == input_types[kX];
  if (!valid) {
    log_error("%s: %s", op_.name, reason(Status::kDataType));
    return kFailure;
  }
  output_types[0] = input_types[kX];
  return kSuccess;
}

std::int32_t SwitchNormPlugin::getOutputShapes(const nvinfer1::DimsExprs* inputs, std::int32_t input_count,
                                               const nvinfer1::DimsExprs*, std::int32_t, nvinfer1::DimsExprs* outputs,
                                               std::int32_t output_count, nvinfer1::IExprBuilder&) noexcept {
  if (!check_count(op_, "inputs", input_count, op_.inputs()) || !check_count(op_, "outputs", output_count, 1)) {
    return kFailure;
  }
  Status status = Status::kOk;
  for (std::int32_t i = kFirstParameter; i <= kLastParameter && status == Status::kOk; ++i) {
    status = inputs[i].nbDims != 1 ? Status::kChannelMismatch
                                   : check_known_extents(attributes_, inputs[kX], known_extent(inputs[i], 0));
  }
  if (status == Status::kOk && op_.epilogue == Epilogue::kAddRelu && !may_be_same(inputs[kX], inputs[kResidual])) {
    status = Status::kResidualMismatch;
  }
  if (status != Status::kOk) {
    log_error("%s: %s", op_.name, reason(status));
    return kFailure;
  }
  outputs[0] = inputs[kX];
  return kSuccess;
}

bool SwitchNormPlugin::supportsFormatCombination(std::int32_t position, const DynamicPluginTensorDesc* tensors,
                                                 std::int32_t input_count, std::int32_t output_count) noexcept {
  if (input_count != op_.inputs() || output_count != 1 || position < 0 || position > input_count) return false;
  const PluginTensorDesc& tensor = tensors[position].desc;
  const PluginTensorDesc& x = tensors[kX].desc;
  if (position == kX) return supports(tensor.type, tensor.format, tensor.dims.nbDims);
  if (position >= kFirstParameter && position <= kLastParameter) {
    return tensor.type == nvinfer1::DataType::kFLOAT && tensor.format == nvinfer1::TensorFormat::kLINEAR;
  }
  return tensor.type == x.type && tensor.format == x.format;  // the residual and Y
}

std::int32_t SwitchNormPlugin::getNbOutputs() const noexcept { return 1; }

std::size_t SwitchNormPlugin::getWorkspaceSize(const DynamicPluginTensorDesc* inputs, std::int32_t input_count,
                                               const DynamicPluginTensorDesc*, std::int32_t) const noexcept {
  SnCudaProblem largest;
  if (!problem_at(op_, attributes_, inputs, input_count, &DynamicPluginTensorDesc::max, &largest)) return 0;
  std::int64_t bytes = 0;
  const std::int32_t status = sn_cuda_workspace_bytes(&largest, &bytes);
  if (status != as_int(Status::kOk)) {
    log_error("%s: %s", op_.name, sn_cuda_reason(status));
    return 0;  // enqueue will say so again, with a status
  }
  return static_cast<std::size_t>(bytes);
}

std::int32_t SwitchNormPlugin::getNbTactics() noexcept {
  SnCudaTactic tactics[kMaxTactics];
  std::int32_t count = 0;
  const std::int32_t status = sn_cuda_list_tactics(&configured_, tactics, kMaxTactics, &count);
  if (status == as_int(Status::kOk)) return count;
  log_error("%s: no tactics can be timed: %s (%s)", op_.name, sn_cuda_reason(status), sn_cuda_device_error());
  return 0;  // TensorRT then uses the default tactic, 0
}

std::int32_t SwitchNormPlugin::getValidTactics(std::int32_t* tactics, std::int32_t tactic_count) noexcept {
  std::int32_t count = 0;
  const std::int32_t status = sn_cuda_list_tactics(&configured_, tactics, tactic_count, &count);
  if (status == as_int(Status::kOk) && count == tactic_count) return kSuccess;
  log_error("%s: %d tactics were asked for and %d found (%s)", op_.name, tactic_count, count, sn_cuda_reason(status));
  return kFailure;
}

const char* SwitchNormPlugin::getTimingCacheID() noexcept { return op_.timing_cache_id; }
const char* SwitchNormPlugin::getMetadataString() noexcept { return metadata_; }

// --- Runtime ------------------------------------------------------------------------------------------------------

std::int32_t SwitchNormPlugin::setTactic(std::int32_t tactic) noexcept {
  tactic_ = tactic;
  return kSuccess;
}

std::int32_t SwitchNormPlugin::onShapeChange(const PluginTensorDesc* inputs, std::int32_t input_count,
                                             const PluginTensorDesc*, std::int32_t) noexcept {
  SnCudaProblem problem;
  return problem_from_tensors(op_, attributes_, inputs, input_count, &problem) ? kSuccess : kFailure;
}

std::int32_t SwitchNormPlugin::enqueue(const PluginTensorDesc* input_desc, const PluginTensorDesc*,
                                       const void* const* inputs, void* const* outputs, void* workspace,
                                       cudaStream_t stream) noexcept {
  SnCudaProblem problem;
  if (inputs == nullptr || outputs == nullptr) {
    log_error("%s: %s", op_.name, reason(Status::kNullPointer));
    return kFailure;
  }
  if (!problem_from_tensors(op_, attributes_, input_desc, op_.inputs(), &problem)) return kFailure;
  if (problem.batch == 0) return kSuccess;
  SnCudaTensors tensors = {};
  tensors.x = inputs[kX];
  tensors.scale = static_cast<const float*>(inputs[kFirstParameter]);
  tensors.bias = static_cast<const float*>(inputs[kFirstParameter + 1]);
  tensors.mean_offset = static_cast<const float*>(inputs[kFirstParameter + 2]);
  tensors.var_offset = static_cast<const float*>(inputs[kLastParameter]);
  tensors.residual = op_.epilogue == Epilogue::kAddRelu ? inputs[kResidual] : nullptr;
  tensors.y = outputs[0];
  const std::int32_t status = launch(problem, tensors, workspace, stream);
  if (status == as_int(Status::kOk)) return kSuccess;
  log_error("%s: %s%s%s", op_.name, sn_cuda_reason(status), status == as_int(Status::kDevice) ? ": " : "",
            status == as_int(Status::kDevice) ? sn_cuda_device_error() : "");
  return kFailure;
}

// The tactic was timed at one shape and on one device. At another shape, or on another device (engines may be built to
// run on all of a generation's and later ones), it may not run; the fallback always does.
std::int32_t SwitchNormPlugin::launch(const SnCudaProblem& problem, const SnCudaTensors& tensors, void* workspace,
                                      cudaStream_t stream) const noexcept {
  std::int64_t bytes = 0;  // no more than getWorkspaceSize asked for at the profile's largest shape
  std::int32_t status = sn_cuda_workspace_bytes(&problem, &bytes);
  if (status != as_int(Status::kOk)) return status;
  SnCudaTactic tactic = tactic_;
  if (tactic == 0) status = sn_cuda_choose_tactic(&problem, &tactic);
  if (status != as_int(Status::kOk)) return status;
  status = sn_cuda_launch(&problem, &tensors, tactic, workspace, bytes, stream);
  if (status != as_int(Status::kTactic)) return status;
  status = sn_cuda_fallback_tactic(&problem, &tactic);
  return status == as_int(Status::kOk) ? sn_cuda_launch(&problem, &tensors, tactic, workspace, bytes, stream) : status;
}

IPluginV3* SwitchNormPlugin::attachToContext(nvinfer1::IPluginResourceContext*) noexcept { return clone(); }

const PluginFieldCollection* SwitchNormPlugin::getFieldsToSerialize() noexcept { return &collection_; }

}  // namespace sn_deploy::tensorrt
