#include "onnxruntime/kernel.h"

#include <cstdint>
#include <cstdlib>
#include <memory>
#include <new>

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
    OrtStatus* status = own.api->KernelContext_ParallelFor(own.context, task, tasks, 0, context);
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
  const std::int64_t bytes = cpu::workspace_bytes(problem);
  const std::unique_ptr<void, Freed> workspace(std::malloc(static_cast<std::size_t>(bytes)));
  Pool pool{node_.api(), context};
  const Status status =
      cpu::switch_norm(problem, weights, node_.epilogue(), tensors, workspace.get(), bytes, {&Pool::run, &pool});
  return status == Status::kOk ? nullptr : invalid(node_.where(), "%s", reason(status));
}

}  // namespace sn_deploy::ort
