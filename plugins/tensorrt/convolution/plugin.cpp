#include "tensorrt/convolution/plugin.h"

#include <algorithm>
#include <cstring>
#include <iterator>
#include <new>

#include "core/problem.h"
#include "tensorrt/log.h"
#include "tensorrt/op.h"

namespace sn_deploy::tensorrt {

using nvinfer1::DynamicPluginTensorDesc;
using nvinfer1::IPluginCapability;
using nvinfer1::IPluginV3;
using nvinfer1::PluginCapabilityType;
using nvinfer1::PluginField;
using nvinfer1::PluginFieldCollection;
using nvinfer1::PluginFieldType;
using nvinfer1::PluginTensorDesc;

namespace {

constexpr std::int32_t kSuccess = 0;
constexpr std::int32_t kFailure = 1;
constexpr std::int32_t kMaxInputs = 7;
constexpr std::int32_t kMaxTactics = 64;
constexpr std::int32_t kFilter = kLastParameter + 1;
constexpr std::int32_t kAdded = kFilter + 1;

// A tactic as one number above 0, and back.
std::int32_t code_of(const SnConvolutionTactic& tactic) {
  return 1 + tactic.kept + 2 * (tactic.tiles + 8 * (tactic.warps + 32 * (tactic.sides + 32 * tactic.parts)));
}
SnConvolutionTactic tactic_of(std::int32_t code) {
  const std::int32_t rest = (code - 1) / 2;
  return {(code - 1) % 2, rest / 8192, rest / 256 % 32, rest / 8 % 32, rest % 8};
}

bool is_image(const PluginTensorDesc& tensor) {
  return tensor.type == nvinfer1::DataType::kHALF && tensor.format == nvinfer1::TensorFormat::kHWC8 &&
         tensor.dims.nbDims == 4;
}

// States the problem of one call; false, with the reason in the log, for what no kernel takes.
bool problem_of(const ConvolutionOp& op, const ConvolutionAttributes& attributes, const PluginTensorDesc* inputs,
                std::int32_t count, SnCudaProblem* problem, SnConvolution* convolution) {
  if (inputs == nullptr || count != op.inputs()) {
    log_error("%s: %d inputs; expected %d", op.name, count, op.inputs());
    return false;
  }
  const nvinfer1::Dims& x = inputs[kX].dims;
  const nvinfer1::Dims& filter = inputs[kFilter].dims;
  if (!is_image(inputs[kX]) || filter.nbDims != 4 || filter.d[1] != x.d[1] || filter.d[2] != 1 || filter.d[3] != 1) {
    log_error("%s: expected X (N, K, H, W) in float16, channels last, and a filter (C, K, 1, 1)", op.name);
    return false;
  }
  SnCudaProblem y = {};
  y.batch = x.d[0];
  y.channels = y.stored_channels = filter.d[0];
  y.spatial = divide_up(x.d[2], attributes.stride) * divide_up(x.d[3], attributes.stride);
  y.has_in = 1;
  y.ddof = attributes.norm.ddof;
  y.data_type = static_cast<std::int32_t>(DataType::kFloat16);
  y.layout = 1;
  y.epilogue = static_cast<std::int32_t>(op.adds ? Epilogue::kAddRelu : Epilogue::kNone);
  y.mean_in = attributes.norm.mean_in;
  y.mean_ln = attributes.norm.mean_ln;
  y.var_in = attributes.norm.var_in;
  y.var_ln = attributes.norm.var_ln;
  *problem = y;
  *convolution = {x.d[1], attributes.stride, x.d[2], x.d[3]};
  return true;
}

}  // namespace

void describe(const ConvolutionAttributes& attributes, PluginField (&fields)[kConvolutionFieldCount]) noexcept {
  PluginField norm[kFieldCount];
  describe(attributes.norm, norm);
  std::copy(std::begin(norm), std::end(norm), fields);
  fields[kFieldCount] = PluginField("stride", &attributes.stride, PluginFieldType::kINT32, 1);
}

bool parse(const char* op, const PluginFieldCollection* collection, ConvolutionAttributes* attributes) noexcept {
  PluginField norm[2 * kFieldCount];
  std::int32_t count = 0;
  bool strided = false;
  for (std::int32_t i = 0; collection != nullptr && i < collection->nbFields && count < 2 * kFieldCount; ++i) {
    const PluginField& field = collection->fields[i];
    if (field.name == nullptr || std::strcmp(field.name, "stride") != 0) {
      norm[count++] = field;
    } else if (field.type == PluginFieldType::kINT32 && field.length == 1 && field.data != nullptr) {
      std::memcpy(&attributes->stride, field.data, sizeof attributes->stride);
      strided = attributes->stride > 0;
    }
  }
  const PluginFieldCollection of_norm = {count, norm};
  if (!parse(op, &of_norm, &attributes->norm)) return false;
  if (!strided) log_error("%s: expected a field stride, kINT32, above 0", op);
  return strided;
}

ConvolutionPlugin::ConvolutionPlugin(const ConvolutionOp& op, const ConvolutionAttributes& attributes) noexcept
    : op_(op), attributes_(attributes) {
  describe(attributes_, fields_);
  collection_ = {kConvolutionFieldCount, fields_};
}

// Not the default: fields_ points into the object.
ConvolutionPlugin::ConvolutionPlugin(const ConvolutionPlugin& other) noexcept
    : ConvolutionPlugin(other.op_, other.attributes_) {
  configured_ = other.configured_;
  convolution_ = other.convolution_;
  tactic_ = other.tactic_;
}

IPluginCapability* ConvolutionPlugin::getCapabilityInterface(PluginCapabilityType type) noexcept {
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

IPluginV3* ConvolutionPlugin::clone() noexcept { return new (std::nothrow) ConvolutionPlugin(*this); }
const char* ConvolutionPlugin::getPluginName() const noexcept { return op_.name; }
const char* ConvolutionPlugin::getPluginVersion() const noexcept { return kVersion; }
const char* ConvolutionPlugin::getPluginNamespace() const noexcept { return kNamespace; }

// --- Build --------------------------------------------------------------------------------------------------------

std::int32_t ConvolutionPlugin::configurePlugin(const DynamicPluginTensorDesc* inputs, std::int32_t input_count,
                                                const DynamicPluginTensorDesc*, std::int32_t) noexcept {
  PluginTensorDesc tensors[kMaxInputs] = {};
  for (std::int32_t i = 0; i < std::min(input_count, kMaxInputs); ++i) {
    tensors[i] = inputs[i].desc;
    tensors[i].dims = inputs[i].opt;
  }
  return problem_of(op_, attributes_, tensors, input_count, &configured_, &convolution_) ? kSuccess : kFailure;
}

std::int32_t ConvolutionPlugin::getOutputDataTypes(nvinfer1::DataType* output_types, std::int32_t,
                                                   const nvinfer1::DataType* input_types, std::int32_t) const noexcept {
  output_types[0] = input_types[kX];
  return kSuccess;
}

std::int32_t ConvolutionPlugin::getOutputShapes(const nvinfer1::DimsExprs* inputs, std::int32_t input_count,
                                                const nvinfer1::DimsExprs*, std::int32_t, nvinfer1::DimsExprs* outputs,
                                                std::int32_t, nvinfer1::IExprBuilder& builder) noexcept {
  if (input_count != op_.inputs() || inputs[kX].nbDims != 4 || inputs[kFilter].nbDims != 4) {
    log_error("%s: expected %d inputs, X and the filter of rank 4", op_.name, op_.inputs());
    return kFailure;
  }
  outputs[0] = inputs[kX];
  outputs[0].d[1] = inputs[kFilter].d[0];
  const nvinfer1::IDimensionExpr* stride = builder.constant(attributes_.stride);
  for (std::int32_t axis = 2; axis < 4; ++axis) {
    outputs[0].d[axis] = builder.operation(nvinfer1::DimensionOperation::kCEIL_DIV, *inputs[kX].d[axis], *stride);
  }
  return kSuccess;
}

bool ConvolutionPlugin::supportsFormatCombination(std::int32_t position, const DynamicPluginTensorDesc* tensors,
                                                  std::int32_t input_count, std::int32_t output_count) noexcept {
  if (input_count != op_.inputs() || output_count != 1 || position < 0 || position > input_count) return false;
  const PluginTensorDesc& tensor = tensors[position].desc;
  if (position == kX || position >= kAdded) return is_image(tensor);
  const auto type = position == kFilter ? nvinfer1::DataType::kHALF : nvinfer1::DataType::kFLOAT;
  return tensor.type == type && tensor.format == nvinfer1::TensorFormat::kLINEAR;
}

std::int32_t ConvolutionPlugin::getNbOutputs() const noexcept { return 1; }

std::int32_t ConvolutionPlugin::getNbTactics() noexcept {
  SnConvolutionTactic found[kMaxTactics];
  std::int32_t count = 0;
  const std::int32_t status = sn_convolution_list_tactics(&configured_, &convolution_, found, kMaxTactics, &count);
  if (status != 0 || count == 0) {
    log_error("%s: no tactics: %s (CUDA's last error: %s)", op_.name, sn_cuda_reason(status), sn_cuda_device_error());
  }
  return count;
}

std::int32_t ConvolutionPlugin::getValidTactics(std::int32_t* tactics, std::int32_t tactic_count) noexcept {
  SnConvolutionTactic found[kMaxTactics];
  std::int32_t count = 0;
  const std::int32_t status = sn_convolution_list_tactics(&configured_, &convolution_, found, kMaxTactics, &count);
  if (status != 0 || count != tactic_count) return kFailure;
  std::transform(found, found + count, tactics, code_of);
  return kSuccess;
}

const char* ConvolutionPlugin::getTimingCacheID() noexcept {
  return op_.adds ? "sn_deploy.SwitchNormConvolutionAddRelu.1" : "sn_deploy.SwitchNormConvolution.1";
}

// --- Runtime ------------------------------------------------------------------------------------------------------

std::int32_t ConvolutionPlugin::setTactic(std::int32_t tactic) noexcept {
  tactic_ = tactic;
  return kSuccess;
}

std::int32_t ConvolutionPlugin::onShapeChange(const PluginTensorDesc* inputs, std::int32_t input_count,
                                              const PluginTensorDesc*, std::int32_t) noexcept {
  SnCudaProblem problem;
  SnConvolution convolution;
  return problem_of(op_, attributes_, inputs, input_count, &problem, &convolution) ? kSuccess : kFailure;
}

std::int32_t ConvolutionPlugin::enqueue(const PluginTensorDesc* input_desc, const PluginTensorDesc*,
                                        const void* const* inputs, void* const* outputs, void*,
                                        cudaStream_t stream) noexcept {
  SnCudaProblem problem;
  SnConvolution convolution;
  if (!problem_of(op_, attributes_, input_desc, op_.inputs(), &problem, &convolution)) return kFailure;
  SnCudaTensors tensors = {};
  tensors.x = inputs[kX];
  tensors.scale = static_cast<const float*>(inputs[kFirstParameter]);
  tensors.bias = static_cast<const float*>(inputs[kFirstParameter + 1]);
  tensors.mean_offset = static_cast<const float*>(inputs[kFirstParameter + 2]);
  tensors.var_offset = static_cast<const float*>(inputs[kLastParameter]);
  tensors.residual = op_.adds ? inputs[kAdded] : nullptr;
  tensors.y = outputs[0];
  const std::int32_t status = launch(problem, convolution, tensors, inputs[kFilter], stream);
  if (status == 0) return kSuccess;
  log_error("%s: %s (CUDA's last error: %s)", op_.name, sn_cuda_reason(status), sn_cuda_device_error());
  return kFailure;
}

// The tactic was timed at one shape and on one device; where it can't run, the first that can is taken.
std::int32_t ConvolutionPlugin::launch(const SnCudaProblem& problem, const SnConvolution& convolution,
                                       const SnCudaTensors& tensors, const void* filter,
                                       cudaStream_t stream) const noexcept {
  constexpr auto kTactic = static_cast<std::int32_t>(Status::kTactic);
  SnConvolutionTactic tactic = tactic_of(tactic_);
  std::int32_t status = kTactic;
  if (tactic_ != 0) status = sn_convolution_launch(&problem, &tensors, filter, &convolution, &tactic, stream);
  if (status != kTactic) return status;
  std::int32_t count = 0;
  status = sn_convolution_list_tactics(&problem, &convolution, &tactic, 1, &count);
  if (status != 0) return status;
  return count == 0 ? kTactic : sn_convolution_launch(&problem, &tensors, filter, &convolution, &tactic, stream);
}

IPluginV3* ConvolutionPlugin::attachToContext(nvinfer1::IPluginResourceContext*) noexcept { return clone(); }

const PluginFieldCollection* ConvolutionPlugin::getFieldsToSerialize() noexcept { return &collection_; }

}  // namespace sn_deploy::tensorrt
