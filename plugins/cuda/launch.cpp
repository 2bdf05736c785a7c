#include "cuda/launch.h"

#include <cuda_runtime_api.h>

#include <cstdint>

#include "cuda/device.h"
#include "cuda/kernels/instances.h"
#include "cuda/prepare.h"

namespace sn_deploy::cuda {
namespace {

constexpr std::int64_t kDefaultSharedBytes = 48 * 1024;
constexpr std::int32_t kPortableCluster = 8;
constexpr int kMostPlans = 16;
constexpr std::uintptr_t kWorkspaceAlignment = 128;

const Kernels& kernels_of(DataType type) {
  static const Kernels tables[] = {float32_kernels(), float16_kernels(), bfloat16_kernels()};
  return tables[static_cast<int>(type)];
}

Kernel kernel_of(const Request& request, const Plan& plan, KernelKind kind) {
  const Kernels& kernels = kernels_of(request.problem.type);
  const auto layout = static_cast<int>(request.storage.layout);
  const int vector = plan.vector_elements > 1 ? 1 : 0;
  switch (kind) {
    case KernelKind::kFused:
      return kernels.fused[layout][vector];
    case KernelKind::kStatistics:
      return kernels.statistics[layout][vector];
    case KernelKind::kNormalize:
      return kernels.normalize[layout][vector];
    case KernelKind::kRow:
      return kernels.row[vector];
  }
  return nullptr;
}

const void* address_of(Kernel kernel) { return reinterpret_cast<const void*>(kernel); }

Status allow(Kernel kernel, const Launch& launch) {
  Status status = Status::kOk;
  if (launch.shared_bytes > kDefaultSharedBytes) {
    status = status_from_cuda(cudaFuncSetAttribute(address_of(kernel), cudaFuncAttributeMaxDynamicSharedMemorySize,
                                                   static_cast<int>(launch.shared_bytes)));
  }
  if (status == Status::kOk && launch.cluster > kPortableCluster) {
    status =
        status_from_cuda(cudaFuncSetAttribute(address_of(kernel), cudaFuncAttributeNonPortableClusterSizeAllowed, 1));
  }
  return status;
}

// A launch in CUDA's terms. Not to be copied: `config` points to `attributes`.
struct Config {
  cudaLaunchConfig_t config = {};
  cudaLaunchAttribute attributes[1] = {};

  Config(const Launch& launch, cudaStream_t stream) {
    config.gridDim = dim3(static_cast<unsigned>(launch.grid));
    config.blockDim = dim3(static_cast<unsigned>(launch.threads));
    config.dynamicSmemBytes = static_cast<std::size_t>(launch.shared_bytes);
    config.stream = stream;
    config.attrs = attributes;
    if (launch.cluster > 1) {
      attributes[0].id = cudaLaunchAttributeClusterDimension;
      attributes[0].val.clusterDim.x = static_cast<unsigned>(launch.cluster);
      attributes[0].val.clusterDim.y = attributes[0].val.clusterDim.z = 1;
      config.numAttrs = 1;
    } else if (launch.cooperative) {
      attributes[0].id = cudaLaunchAttributeCooperative;
      attributes[0].val.cooperative = 1;
      config.numAttrs = 1;
    }
  }
  Config(const Config&) = delete;
  Config& operator=(const Config&) = delete;
};

// Whether the device has room for a cluster of this size with this much memory a block: kTactic where it has none.
Status check_cluster(Kernel kernel, const Launch& launch) {
  const Config config(launch, nullptr);
  int clusters = 0;
  const Status status = status_from_cuda(cudaOccupancyMaxActiveClusters(&clusters, address_of(kernel), &config.config));
  if (status != Status::kOk) return status;
  return clusters > 0 ? Status::kOk : Status::kTactic;
}

Status put(Kernel kernel, const Launch& launch, cudaStream_t stream) {
  Status status = allow(kernel, launch);
  if (status == Status::kOk && launch.cluster > kPortableCluster) status = check_cluster(kernel, launch);
  if (status != Status::kOk) return status;
  if (launch.zeroed_bytes > 0) {
    status = status_from_cuda(
        cudaMemsetAsync(launch.arguments.workspace, 0, static_cast<std::size_t>(launch.zeroed_bytes), stream));
    if (status != Status::kOk) return status;
  }
  const Config config(launch, stream);
  Arguments arguments = launch.arguments;
  void* parameters[] = {&arguments};
  return status_from_cuda(cudaLaunchKernelExC(&config.config, address_of(kernel), parameters));
}

bool multiple(const void* address, std::uintptr_t of) { return reinterpret_cast<std::uintptr_t>(address) % of == 0; }

Status check_tensors(const SnCudaProblem& problem, const SnCudaTensors* tensors, bool* aligned) {
  if (tensors == nullptr) return Status::kNullPointer;
  const bool with_residual = static_cast<Epilogue>(problem.epilogue) == Epilogue::kAddRelu;
  const void* values[] = {tensors->x, tensors->y, with_residual ? tensors->residual : tensors->x};
  const void* parameters[] = {tensors->scale, tensors->bias, tensors->mean_offset, tensors->var_offset};
  *aligned = true;
  for (const void* address : values) {
    if (address == nullptr) return Status::kNullPointer;
    const std::int64_t bytes = bytes_of(static_cast<DataType>(problem.data_type));
    if (!multiple(address, static_cast<std::uintptr_t>(bytes))) return Status::kMisaligned;
    *aligned = *aligned && multiple(address, kVectorBytes);
  }
  for (const void* address : parameters) {
    if (address == nullptr) return Status::kNullPointer;
    if (!multiple(address, sizeof(float))) return Status::kMisaligned;
  }
  return Status::kOk;
}

Status launch(const SnCudaProblem* problem, const SnCudaTensors* tensors, SnCudaTactic code, void* workspace,
              std::int64_t workspace_bytes, cudaStream_t stream) {
  Request request;
  Status status = request_from_c(problem, true, &request);
  if (status != Status::kOk || request.problem.batch == 0) return status;
  status = check_tensors(*problem, tensors, &request.storage.aligned);
  if (status != Status::kOk) return status;
  TacticCode tactic;
  if (!decode(code, &tactic)) return Status::kTactic;
  DeviceLimits limits;
  status = current_limits(&limits);
  if (status != Status::kOk) return status;
  Plan plan;
  status = make_plan(request.problem, request.storage, limits, tactic.tactic, tactic.blocks, &plan);
  if (status != Status::kOk) return status;
  const bool room = plan.workspace_bytes == 0 || (workspace != nullptr && workspace_bytes >= plan.workspace_bytes &&
                                                  multiple(workspace, kWorkspaceAlignment));
  if (!room) return Status::kWorkspace;
  const Launches launches = prepare(request, *problem, *tensors, plan, limits.multiprocessors, workspace);
  for (int i = 0; i < launches.count && status == Status::kOk; ++i) {
    status = put(kernel_of(request, plan, launches.list[i].kind), launches.list[i], stream);
  }
  return status;
}

Status list_tactics(const SnCudaProblem* problem, SnCudaTactic* tactics, std::int32_t capacity, std::int32_t* count) {
  if (count == nullptr || (tactics == nullptr && capacity > 0)) return Status::kNullPointer;
  *count = 0;
  Request request;
  Status status = request_from_c(problem, true, &request);
  if (status != Status::kOk) return status;
  DeviceLimits limits;
  status = current_limits(&limits);
  if (status != Status::kOk) return status;
  Plan plans[kMostPlans];
  const int found = list_plans(request.problem, request.storage, limits, plans, kMostPlans);
  for (int i = 0; i < found && *count < capacity; ++i) {
    if (plans[i].tactic == Tactic::kCluster && request.problem.batch > 0) {
      const Launches launches = prepare(request, *problem, {}, plans[i], limits.multiprocessors, nullptr);
      const Kernel kernel = kernel_of(request, plans[i], KernelKind::kFused);
      status = allow(kernel, launches.list[0]);
      if (status == Status::kOk) status = check_cluster(kernel, launches.list[0]);
      if (status == Status::kTactic) continue;
      if (status != Status::kOk) return status;
    }
    tactics[(*count)++] = encode(plans[i]);
  }
  return Status::kOk;
}

Status choose_tactic(const SnCudaProblem* problem, SnCudaTactic* tactic) {
  if (tactic == nullptr) return Status::kNullPointer;
  Request request;
  Status status = request_from_c(problem, true, &request);
  if (status != Status::kOk) return status;
  DeviceLimits limits;
  status = current_limits(&limits);
  if (status != Status::kOk) return status;
  if (limits.max_cluster > kPortableCluster) limits.max_cluster = kPortableCluster;  // which always have room
  Plan plan;
  status = choose_plan(request.problem, request.storage, limits, &plan);
  if (status == Status::kOk) *tactic = encode(plan);
  return status;
}

Status workspace_bytes(const SnCudaProblem* problem, std::int64_t* bytes) {
  if (bytes == nullptr) return Status::kNullPointer;
  Request request;
  Status status = request_from_c(problem, true, &request);
  if (status != Status::kOk) return status;
  std::int64_t largest = 0;
  Plan plan;
  for (std::int64_t blocks = 2; blocks <= kMaxBlocksPerSample; blocks *= 2) {
    status = make_plan(request.problem, request.storage, widest_limits(), Tactic::kCooperative, blocks, &plan);
    if (status == Status::kOk && plan.workspace_bytes > largest) largest = plan.workspace_bytes;
    if (status != Status::kOk && status != Status::kTactic) return status;
  }
  status = make_plan(request.problem, request.storage, widest_limits(), Tactic::kTwoKernels, 1, &plan);
  if (status == Status::kOk && plan.workspace_bytes > largest) largest = plan.workspace_bytes;
  if (status != Status::kOk && status != Status::kTactic) return status;
  *bytes = largest;
  return Status::kOk;
}

constexpr std::int32_t as_int(Status status) { return static_cast<std::int32_t>(status); }

}  // namespace
}  // namespace sn_deploy::cuda

extern "C" {

int32_t sn_cuda_list_tactics(const SnCudaProblem* problem, SnCudaTactic* tactics, int32_t capacity, int32_t* count) {
  return sn_deploy::cuda::as_int(sn_deploy::cuda::list_tactics(problem, tactics, capacity, count));
}

int32_t sn_cuda_choose_tactic(const SnCudaProblem* problem, SnCudaTactic* tactic) {
  return sn_deploy::cuda::as_int(sn_deploy::cuda::choose_tactic(problem, tactic));
}

int32_t sn_cuda_fallback_tactic(const SnCudaProblem* problem, SnCudaTactic* tactic) {
  if (problem == nullptr || tactic == nullptr) return sn_deploy::cuda::as_int(sn_deploy::Status::kNullPointer);
  *tactic =
      static_cast<SnCudaTactic>(problem->has_in != 0 ? sn_deploy::Tactic::kTwoKernels : sn_deploy::Tactic::kOneBlock);
  return 0;
}

int32_t sn_cuda_workspace_bytes(const SnCudaProblem* problem, int64_t* bytes) {
  return sn_deploy::cuda::as_int(sn_deploy::cuda::workspace_bytes(problem, bytes));
}

int32_t sn_cuda_launch(const SnCudaProblem* problem, const SnCudaTensors* tensors, SnCudaTactic tactic, void* workspace,
                       int64_t workspace_bytes, void* stream) {
  return sn_deploy::cuda::as_int(
      sn_deploy::cuda::launch(problem, tensors, tactic, workspace, workspace_bytes, static_cast<cudaStream_t>(stream)));
}

const char* sn_cuda_reason(int32_t status) { return sn_deploy::reason(static_cast<sn_deploy::Status>(status)); }

const char* sn_cuda_device_error(void) { return sn_deploy::cuda::device_error(); }

}  // extern "C"
