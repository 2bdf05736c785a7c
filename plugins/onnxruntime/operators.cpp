#include "onnxruntime/operators.h"

#include <climits>
#include <cstddef>
#include <cstdint>
#include <initializer_list>

#include "onnxruntime/node.h"
#include "onnxruntime/status.h"

namespace sn_deploy::ort {
namespace {

const Operator& as_operator(const OrtCustomOp* op) { return *static_cast<const Operator*>(op); }

OrtStatus* create_kernel(const OrtCustomOp* op, const OrtApi* api, const OrtKernelInfo* info, void** kernel) {
  const Operator& own = as_operator(op);
  return own.provider->create(api, info, {own.name, own.epilogue, own.type, own.provider->blocked, own.runtime},
                              kernel);
}

ONNXTensorElementDataType onnx_from_type(DataType type) {
  if (type == DataType::kFloat16) return ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT16;
  if (type == DataType::kBfloat16) return ONNX_TENSOR_ELEMENT_DATA_TYPE_BFLOAT16;
  return ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT;
}

ONNXTensorElementDataType input_type(const OrtCustomOp* op, std::size_t index) {
  const bool parameter = index != kX && index != kResidual;
  return parameter ? ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT : onnx_from_type(as_operator(op).type);
}

ONNXTensorElementDataType output_type(const OrtCustomOp* op, std::size_t) {
  return onnx_from_type(as_operator(op).type);
}

std::size_t input_count(const OrtCustomOp* op) { return as_operator(op).epilogue == Epilogue::kAddRelu ? 6 : 5; }

constexpr std::size_t kMaxRank = 16;

// Whether each extent is a number or has a name. ONNX Runtime gives unknown ones as -1 without a name, and would take
// that -1 for a size; a shape that isn't known at all is one of rank 0.
OrtStatus* is_known(const OrtApi* api, const OrtTensorTypeAndShapeInfo* shape, bool* known) {
  *known = false;
  std::size_t rank = 0;
  SN_RETURN_IF_ERROR(api->GetDimensionsCount(shape, &rank));
  if (rank < 2 || rank > kMaxRank) return nullptr;
  std::int64_t extents[kMaxRank];
  const char* names[kMaxRank];
  SN_RETURN_IF_ERROR(api->GetDimensions(shape, extents, rank));
  SN_RETURN_IF_ERROR(api->GetSymbolicDimensions(shape, names, rank));
  *known = true;
  for (std::size_t axis = 0; axis < rank; ++axis) {
    if (extents[axis] < 0 && (names[axis] == nullptr || names[axis][0] == '\0')) *known = false;
  }
  return nullptr;
}

// Y is like X. X's own description is passed on as it is, so symbolic extents keep their names, without which ONNX
// Runtime would not plan Y into X's memory.
OrtStatus* infer_shape(const OrtCustomOp* op, OrtShapeInferContext* context) {
  const OrtApi* api = as_operator(op).api;
  OrtTensorTypeAndShapeInfo* x = nullptr;  // the context's own
  SN_RETURN_IF_ERROR(api->ShapeInferContext_GetInputTypeShape(context, kX, &x));
  bool known = false;
  SN_RETURN_IF_ERROR(is_known(api, x, &known));
  return known ? api->ShapeInferContext_SetOutputTypeShape(context, 0, x) : nullptr;
}

// Y may take X's place, and the residual's.
constexpr int kOutputs[] = {0, 0};
constexpr int kFromX[] = {kX};
constexpr int kFromXOrResidual[] = {kX, kResidual};

template <std::size_t kCount>
std::size_t in_place(const int (&inputs)[kCount], int** input, int** output) {
  // Nothing is allocated, so nothing is released; ONNX Runtime only reads.
  *input = const_cast<int*>(inputs);
  *output = const_cast<int*>(kOutputs);
  return kCount;
}

std::size_t in_place_of_x(int** input, int** output) { return in_place(kFromX, input, output); }
std::size_t in_place_of_x_or_residual(int** input, int** output) { return in_place(kFromXOrResidual, input, output); }

Operator make_operator(const OrtApi* api, const Provider& provider, const char* name, Epilogue epilogue,
                       DataType type) {
  Operator made{};
  made.api = api;
  made.provider = &provider;
  made.name = name;
  made.epilogue = epilogue;
  made.type = type;
  made.version = kApiVersion;
  made.GetName = [](const OrtCustomOp* op) { return as_operator(op).name; };
  made.GetExecutionProviderType = [](const OrtCustomOp* op) { return as_operator(op).provider->name; };
  made.GetInputTypeCount = &input_count;
  made.GetInputType = &input_type;
  made.GetInputCharacteristic = [](const OrtCustomOp*, std::size_t) { return INPUT_OUTPUT_REQUIRED; };
  made.GetInputMemoryType = [](const OrtCustomOp*, std::size_t) { return OrtMemTypeDefault; };
  made.GetOutputTypeCount = [](const OrtCustomOp*) -> std::size_t { return 1; };
  made.GetOutputType = &output_type;
  made.GetOutputCharacteristic = [](const OrtCustomOp*, std::size_t) { return INPUT_OUTPUT_REQUIRED; };
  made.GetVariadicInputMinArity = [](const OrtCustomOp*) { return 0; };
  made.GetVariadicInputHomogeneity = [](const OrtCustomOp*) { return 0; };
  made.GetVariadicOutputMinArity = [](const OrtCustomOp*) { return 0; };
  made.GetVariadicOutputHomogeneity = [](const OrtCustomOp*) { return 0; };
  made.CreateKernelV2 = &create_kernel;
  made.KernelComputeV2 = provider.compute;
  made.KernelDestroy = provider.destroy;
  made.InferOutputShapeFn = &infer_shape;
  made.GetStartVersion = [](const OrtCustomOp*) { return 1; };
  made.GetEndVersion = [](const OrtCustomOp*) { return INT_MAX; };
  made.GetMayInplace = epilogue == Epilogue::kAddRelu ? &in_place_of_x_or_residual : &in_place_of_x;
  made.ReleaseMayInplace = [](int*, int*) {};
  return made;
}

}  // namespace

int make_operators(const OrtApi* api, const Provider& provider, Operator* operators) {
  Operator* next = operators;
  for (const DataType type : {DataType::kFloat32, DataType::kFloat16, DataType::kBfloat16}) {
    if (provider.blocked && type != DataType::kFloat32) continue;  // ONNX Runtime's own blocked operators have no other
    *next++ = make_operator(api, provider, "SwitchNorm", Epilogue::kNone, type);
    *next++ = make_operator(api, provider, "SwitchNormRelu", Epilogue::kRelu, type);
    *next++ = make_operator(api, provider, "SwitchNormAddRelu", Epilogue::kAddRelu, type);
  }
  return static_cast<int>(next - operators);
}

}  // namespace sn_deploy::ort
