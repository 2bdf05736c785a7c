// What ThreadSanitizer can't see: ONNX Runtime, which isn't instrumented, hands tasks to its threads by atomics of its
// own. Its promise is told here: what was written before KernelContext_ParallelFor is seen by the tasks, and what tasks
// wrote is seen after it. Nothing else is: what tasks share among themselves has to be right by itself. Without that
// sanitizer this is a plain call.
#pragma once

#include <cstddef>

#if defined(__SANITIZE_THREAD__)
#define SN_THREAD_SANITIZER 1
#elif defined(__has_feature)
#if __has_feature(thread_sanitizer)
#define SN_THREAD_SANITIZER 1
#endif
#endif

#ifdef SN_THREAD_SANITIZER
extern "C" {
void __tsan_acquire(void* address);
void __tsan_release(void* address);
}
#endif

namespace sn_deploy::ort {

using Task = void (*)(void* context, std::size_t i);

// Calls for_each(task, context), which runs the tasks, and returns what that does.
template <typename ForEach>
auto handed_over(Task task, void* context, const ForEach& for_each) {
#ifdef SN_THREAD_SANITIZER
  struct Handed {
    Task task;
    void* context;
    char done;  // stands for the end of a task
  } handed{task, context, 0};
  const Task told = [](void* own, std::size_t i) {
    auto* const of = static_cast<Handed*>(own);
    __tsan_acquire(of);
    of->task(of->context, i);
    __tsan_release(&of->done);
  };
  __tsan_release(&handed);
  const auto result = for_each(told, &handed);
  __tsan_acquire(&handed.done);
  return result;
#else
  return for_each(task, context);
#endif
}

}  // namespace sn_deploy::ort
