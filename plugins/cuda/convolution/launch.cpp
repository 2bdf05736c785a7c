#include "cuda/convolution/launch.h"

#include "cuda/convolution/device.h"

namespace sn_deploy::cuda {
namespace {

constexpr std::int32_t kMostTactics = 64;  // of one problem

Convolution convolution_of(const SnConvolution& from) { return {from.depth, from.stride, from.x_height, from.x_width}; }

Status list(const SnCudaProblem* problem, const SnConvolution* convolution, SnConvolutionTactic* tactics,
            std::int32_t capacity, std::int32_t* count) {
  if (convolution == nullptr || count == nullptr || (tactics == nullptr && capacity > 0)) return Status::kNullPointer;
  Request request;
  Status status = request_from_c(problem, true, &request);
  if (status != Status::kOk) return status;
  DeviceLimits limits;
  status = current_limits(&limits);
  if (status != Status::kOk) return status;
  ConvolutionTactic found[kMostTactics];  // not all of them may have room
  const Convolution how = convolution_of(*convolution);
  const std::int32_t all = list_convolution_tactics(request, *problem, how, limits, found, kMostTactics);
  *count = 0;
  for (std::int32_t i = 0; i < all && *count < capacity; ++i) {
    const ConvolutionTactic& one = found[i];
    ConvolutionLaunch launch;
    status = plan_convolution(request, *problem, {}, nullptr, how, one, limits, &launch);
    if (status == Status::kOk) status = check_convolution_room(launch);
    if (status == Status::kTactic) continue;
    if (status != Status::kOk) return status;
    tactics[(*count)++] = {one.product == Product::kKept ? 1 : 0, one.parts, one.sides, one.warps, one.tiles};
  }
  return Status::kOk;
}

bool is_aligned(const void* address) { return reinterpret_cast<std::uintptr_t>(address) % kVectorBytes == 0; }

Status launch(const SnCudaProblem* problem, const SnCudaTensors* tensors, const void* filter,
              const SnConvolution* convolution, const SnConvolutionTactic* tactic, void* stream) {
  if (tensors == nullptr || convolution == nullptr || tactic == nullptr) return Status::kNullPointer;
  Request request;
  Status status = request_from_c(problem, true, &request);
  if (status != Status::kOk) return status;
  if (request.problem.batch == 0) return Status::kOk;
  const bool adds = static_cast<Epilogue>(problem->epilogue) == Epilogue::kAddRelu;
  for (const void* pointer :
       {tensors->x, static_cast<const void*>(tensors->y), filter, adds ? tensors->residual : tensors->x}) {
    if (pointer == nullptr) return Status::kNullPointer;
    if (!is_aligned(pointer)) return Status::kMisaligned;
  }
  for (const float* pointer : {tensors->scale, tensors->bias, tensors->mean_offset, tensors->var_offset}) {
    if (pointer == nullptr) return Status::kNullPointer;
  }
  DeviceLimits limits;
  status = current_limits(&limits);
  if (status != Status::kOk) return status;
  const ConvolutionTactic own = {tactic->kept != 0 ? Product::kKept : Product::kStreamed, tactic->parts, tactic->sides,
                                 tactic->warps, tactic->tiles};
  ConvolutionLaunch made;
  status = plan_convolution(request, *problem, *tensors, filter, convolution_of(*convolution), own, limits, &made);
  return status == Status::kOk ? put_convolution(made, stream) : status;
}

}  // namespace
}  // namespace sn_deploy::cuda

extern "C" int32_t sn_convolution_list_tactics(const SnCudaProblem* problem, const SnConvolution* convolution,
                                               SnConvolutionTactic* tactics, int32_t capacity, int32_t* count) {
  return static_cast<int32_t>(sn_deploy::cuda::list(problem, convolution, tactics, capacity, count));
}

extern "C" int32_t sn_convolution_launch(const SnCudaProblem* problem, const SnCudaTensors* tensors, const void* filter,
                                         const SnConvolution* convolution, const SnConvolutionTactic* tactic,
                                         void* stream) {
  return static_cast<int32_t>(sn_deploy::cuda::launch(problem, tensors, filter, convolution, tactic, stream));
}
