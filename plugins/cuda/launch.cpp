#include <cstdint>

#include "cuda/device.h"
#include "cuda/prepare.h"
#include "sn_deploy/cuda.h"

namespace sn_deploy::cuda {
namespace {

constexpr int kMostPlans = 16;
constexpr std::uintptr_t kWorkspaceAlignment = 128;

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

// The tactic's plan on the current device.
Status plan_of(const Request& request, SnCudaTactic code, DeviceLimits* limits, Plan* plan) {
  TacticCode tactic;
  if (!decode(code, &tactic)) return Status::kTactic;
  const Status status = current_limits(limits);
  if (status != Status::kOk) return status;
  return make_plan(request.problem, request.storage, *limits, tactic.tactic, tactic.blocks, plan);
}

Status launch(const SnCudaProblem* problem, const SnCudaTensors* tensors, SnCudaTactic code, void* workspace,
              std::int64_t workspace_bytes, void* stream) {
  Request request;
  Status status = request_from_c(problem, true, &request);
  if (status != Status::kOk || request.problem.batch == 0) return status;
  status = check_tensors(*problem, tensors, &request.storage.aligned);
  if (status != Status::kOk) return status;
  DeviceLimits limits;
  Plan plan;
  status = plan_of(request, code, &limits, &plan);
  if (status != Status::kOk) return status;
  const bool room = plan.workspace_bytes == 0 || (workspace != nullptr && workspace_bytes >= plan.workspace_bytes &&
                                                  multiple(workspace, kWorkspaceAlignment));
  if (!room) return Status::kWorkspace;
  const Launches launches = prepare(request, *problem, *tensors, plan, limits.multiprocessors, workspace);
  for (int i = 0; i < launches.count && status == Status::kOk; ++i) {
    status = put(launches.list[i], stream);
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
      status = check_room(launches.list[0]);
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
  // A tactic that has no room for this problem may have it for a smaller one.
  DeviceLimits limits = widest_limits();
  limits.shared_bytes = INT64_MAX;
  for (std::int64_t blocks = 2; blocks <= kMaxBlocksPerSample; blocks *= 2) {
    status = make_plan(request.problem, request.storage, limits, Tactic::kCooperative, blocks, &plan);
    if (status == Status::kOk && plan.workspace_bytes > largest) largest = plan.workspace_bytes;
    if (status != Status::kOk && status != Status::kTactic) return status;
  }
  status = make_plan(request.problem, request.storage, widest_limits(), Tactic::kTwoKernels, 1, &plan);
  if (status == Status::kOk && plan.workspace_bytes > largest) largest = plan.workspace_bytes;
  if (status != Status::kOk && status != Status::kTactic) return status;
  // A queue may run a smaller problem where it can't run this one, whose rows have no whole vectors. That of small
  // items has more parts.
  std::int64_t parts = 0;
  QueueRoom room;
  if (request.problem.has_in) {
    if (!queue_parts(request.problem, request.storage, Tactic::kQueue, &parts) ||
        !queue_room(request.problem, parts, &room)) {
      return Status::kTooLarge;
    }
    if (room.bytes > largest) largest = room.bytes;
  }
  *bytes = largest;
  return Status::kOk;
}

Status tactic_workspace_bytes(const SnCudaProblem* problem, SnCudaTactic tactic, std::int64_t* bytes) {
  if (bytes == nullptr) return Status::kNullPointer;
  Request request;
  Status status = request_from_c(problem, true, &request);
  if (status != Status::kOk) return status;
  DeviceLimits limits;
  Plan plan;
  status = plan_of(request, tactic, &limits, &plan);
  if (status == Status::kOk) *bytes = plan.workspace_bytes;
  return status;
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

int32_t sn_cuda_tactic_workspace_bytes(const SnCudaProblem* problem, SnCudaTactic tactic, int64_t* bytes) {
  return sn_deploy::cuda::as_int(sn_deploy::cuda::tactic_workspace_bytes(problem, tactic, bytes));
}

int32_t sn_cuda_launch(const SnCudaProblem* problem, const SnCudaTensors* tensors, SnCudaTactic tactic, void* workspace,
                       int64_t workspace_bytes, void* stream) {
  return sn_deploy::cuda::as_int(sn_deploy::cuda::launch(problem, tensors, tactic, workspace, workspace_bytes, stream));
}

const char* sn_cuda_reason(int32_t status) { return sn_deploy::reason(static_cast<sn_deploy::Status>(status)); }

const char* sn_cuda_device_error(void) { return sn_deploy::cuda::device_error(); }

}  // extern "C"
