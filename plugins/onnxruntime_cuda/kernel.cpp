#include "onnxruntime_cuda/kernel.h"

#include <cstdint>
#include <memory>
#include <new>

#include "onnxruntime_cuda/scratch.h"

namespace sn_deploy::ort {
namespace {

constexpr std::int32_t kOk = static_cast<std::int32_t>(Status::kOk);

SnCudaProblem c_problem(const Problem& from, const Attributes& attributes, Epilogue epilogue) {
  SnCudaProblem problem = {};
  problem.batch = from.batch;
  problem.channels = from.channels;
  problem.spatial = from.spatial;
  problem.has_in = from.has_in ? 1 : 0;
  problem.ddof = from.ddof;
  problem.data_type = static_cast<std::int32_t>(from.type);
  problem.epilogue = static_cast<std::int32_t>(epilogue);
  problem.mean_in = attributes.mean_in;
  problem.mean_ln = attributes.mean_ln;
  problem.var_in = attributes.var_in;
  problem.var_ln = attributes.var_ln;
  return problem;
}

SnCudaTensors c_tensors(const Tensors& from) {
  const float* const* parameters = from.parameters;
  return {from.x, parameters[0], parameters[1], parameters[2], parameters[3], from.residual, from.y};
}

// The memory that X is in.
OrtStatus* memory_of_x(const Where& where, const OrtKernelContext* context, const OrtMemoryInfo** memory) {
  const OrtApi* api = where.api;
  const OrtValue* x = nullptr;
  SN_RETURN_IF_ERROR(api->KernelContext_GetInput(context, kX, &x));
  SN_RETURN_IF_ERROR(api->GetTensorMemoryInfo(x, memory));
  OrtMemoryInfoDeviceType device = OrtMemoryInfoDeviceType_CPU;
  api->MemoryInfoGetDeviceType(*memory, &device);
  return device == OrtMemoryInfoDeviceType_GPU ? nullptr : invalid(where, "X is not in a GPU's memory");
}

}  // namespace

OrtStatus* CudaKernel::create(const OrtApi* api, const OrtKernelInfo* info, const Kind& kind, CudaKernel** kernel) {
  std::unique_ptr<CudaKernel> made(new (std::nothrow) CudaKernel);
  if (made == nullptr) return api->CreateStatus(ORT_FAIL, "out of memory");
  SN_RETURN_IF_ERROR(made->node_.read(api, info, kind));
  *kernel = made.release();
  return nullptr;
}

// `result` is the launcher's status; the OrtStatus is ONNX Runtime's own.
OrtStatus* CudaKernel::launch(OrtKernelContext* context, const SnCudaProblem& problem, const SnCudaTensors& tensors,
                              SnCudaTactic tactic, std::int32_t* result) const {
  std::int64_t bytes = 0;
  *result = sn_cuda_tactic_workspace_bytes(&problem, tactic, &bytes);
  if (*result != kOk) return nullptr;
  const OrtApi* api = node_.api();
  const OrtMemoryInfo* memory = nullptr;
  void* stream = nullptr;
  SN_RETURN_IF_ERROR(memory_of_x(node_.where(), context, &memory));
  SN_RETURN_IF_ERROR(api->KernelContext_GetGPUComputeStream(context, &stream));
  Scratch workspace(api, context);
  SN_RETURN_IF_ERROR(workspace.take(memory, static_cast<std::size_t>(bytes)));
  *result = sn_cuda_launch(&problem, &tensors, tactic, workspace.get(), bytes, stream);
  return nullptr;
}

OrtStatus* CudaKernel::compute(OrtKernelContext* context) const {
  Problem checked;
  Tensors read = {};
  SN_RETURN_IF_ERROR(node_.read_tensors(context, &checked, &read));
  if (checked.batch == 0) return nullptr;
  const SnCudaProblem problem = c_problem(checked, node_.attributes(), node_.epilogue());
  const SnCudaTensors tensors = c_tensors(read);
  SnCudaTactic tactic = 0;
  std::int32_t result = sn_cuda_choose_tactic(&problem, &tactic);
  if (result == kOk) SN_RETURN_IF_ERROR(launch(context, problem, tensors, tactic, &result));
  // A choice assumes aligned addresses, and a device that has nothing else to do.
  if (result == static_cast<std::int32_t>(Status::kTactic)) {
    result = sn_cuda_fallback_tactic(&problem, &tactic);
    if (result == kOk) SN_RETURN_IF_ERROR(launch(context, problem, tensors, tactic, &result));
  }
  return result == kOk ? nullptr : refuse(result);
}

OrtStatus* CudaKernel::refuse(std::int32_t result) const {
  const bool device = result == static_cast<std::int32_t>(Status::kDevice);
  return invalid(node_.where(), "%s%s%s", sn_cuda_reason(result), device ? ": " : "",
                 device ? sn_cuda_device_error() : "");
}

}  // namespace sn_deploy::ort
