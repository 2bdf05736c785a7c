#include "tensorrt/tests/fake_launcher.h"

#include <algorithm>

#include "core/problem.h"

namespace {
FakeLauncher state;
constexpr std::int32_t as_int(sn_deploy::Status status) { return static_cast<std::int32_t>(status); }
}  // namespace

extern "C" {

// Not in sn_deploy/cuda.h: the test's way in.
SN_CUDA_API FakeLauncher* sn_fake_launcher() { return &state; }

int32_t sn_cuda_list_tactics(const SnCudaProblem* problem, SnCudaTactic* tactics, int32_t capacity, int32_t* count) {
  state.listed = *problem;
  *count = std::min(capacity, 3);
  std::copy_n(kFakeTactics, *count, tactics);
  return state.list_status;
}

int32_t sn_cuda_choose_tactic(const SnCudaProblem*, SnCudaTactic* tactic) {
  *tactic = kFakeChosen;
  return state.choose_status;
}

int32_t sn_cuda_fallback_tactic(const SnCudaProblem*, SnCudaTactic* tactic) {
  *tactic = kFakeFallback;
  return 0;
}

// Any function that grows with the problem, as far as its numbers go.
int32_t sn_cuda_workspace_bytes(const SnCudaProblem* problem, int64_t* bytes) {
  std::int64_t rows = 0;
  const bool fits = sn_deploy::multiply(problem->batch, problem->channels, &rows) && rows < std::int64_t{1} << 58;
  *bytes = fits ? rows * 12 + problem->spatial % (std::int64_t{1} << 58) : std::int64_t{1} << 62;
  return state.workspace_status;
}

int32_t sn_cuda_launch(const SnCudaProblem* problem, const SnCudaTensors* tensors, SnCudaTactic tactic, void* workspace,
                       int64_t workspace_bytes, void* stream) {
  if (tactic == state.refuse_tactic) return as_int(sn_deploy::Status::kTactic);
  if (state.launch_status != 0) return state.launch_status;
  ++state.launches;
  state.problem = *problem;
  state.tensors = *tensors;
  state.tactic = tactic;
  state.workspace = workspace;
  state.workspace_bytes = workspace_bytes;
  state.stream = stream;
  return 0;
}

const char* sn_cuda_reason(int32_t status) { return sn_deploy::reason(static_cast<sn_deploy::Status>(status)); }

const char* sn_cuda_device_error() { return "a fake device error"; }

}  // extern "C"
