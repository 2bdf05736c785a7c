#include "onnxruntime/kernel.h"

#include <cinttypes>
#include <cstdint>
#include <cstdlib>
#include <memory>
#include <new>

#include "cpu/blocked.h"
#include "onnxruntime/handed_over.h"

namespace sn_deploy::ort {
namespace {

struct Freed {
  void operator()(void* memory) const { std::free(memory); }
};

// ONNX Runtime's own threads, as many as the session has.
struct Pool {
  const OrtApi* api;
  OrtKernelContext* context;

  static bool run(void* pool, void (*task)(void*, std::size_t), void* context, std::size_t tasks) {
    const Pool& own = *static_cast<const Pool*>(pool);
    OrtStatus* status = handed_over(task, context, [&own, tasks](Task each, void* with) {
      return own.api->KernelContext_ParallelFor(own.context, each, tasks, 0, with);
    });
    if (status == nullptr) return true;
    own.api->ReleaseStatus(status);
    return false;
  }
};

}  // namespace

OrtStatus* Kernel::create(const OrtApi* api, const OrtKernelInfo* info, const Kind& kind, Kernel** kernel) {
  std::unique_ptr<Kernel> made(new (std::nothrow) Kernel);
  if (made == nullptr) return api->CreateStatus(ORT_FAIL, "out of memory");
  SN_RETURN_IF_ERROR(made->node_.read(api, info, kind));
  *kernel = made.release();
  return nullptr;
}

OrtStatus* Kernel::compute(OrtKernelContext* context) const {
  Problem problem;
  Tensors t = {};
  SN_RETURN_IF_ERROR(node_.read_tensors(context, &problem, &t));
  const float* const* p = t.parameters;
  const cpu::Tensors tensors = {t.x, p[0], p[1], p[2], p[3], t.residual, t.y};
  const Attributes& a = node_.attributes();
  const cpu::Weights weights = {a.mean_in, a.mean_ln, a.var_in, a.var_ln};
  const std::int64_t bytes =
      a.block == 0 ? cpu::workspace_bytes(problem) : cpu::blocked_workspace_bytes(problem, a.block);
  const std::unique_ptr<void, Freed> workspace(std::malloc(static_cast<std::size_t>(bytes)));
  if (workspace == nullptr && bytes > 0) {
    return invalid(node_.where(), "out of memory: %" PRId64 " bytes of workspace", bytes);
  }
  Pool pool{node_.api(), context};
  const cpu::Parallel parallel{&Pool::run, &pool};
  const Epilogue epilogue = node_.epilogue();
  const Status status =
      a.block == 0
          ? cpu::switch_norm(problem, weights, epilogue, tensors, workspace.get(), bytes, parallel)
          : cpu::switch_norm_blocked(problem, a.block, weights, epilogue, tensors, workspace.get(), bytes, parallel);
  return status == Status::kOk ? nullptr : invalid(node_.where(), "%s", reason(status));
}

}  // namespace sn_deploy::ort
