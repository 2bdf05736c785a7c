#include "cuda/tests/fibers.h"

#include <algorithm>
#include <cstddef>
#include <cstdio>
#include <cstdlib>
#include <memory>
#include <random>
#include <vector>

#include "cuda/tests/context.h"

#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/common_interface_defs.h>
#endif
#if defined(__SANITIZE_THREAD__)
#include <sanitizer/tsan_interface.h>
#endif

// The scheduler's own variables are ordered by the switches, which the thread sanitizer is not to take for an order of
// the fibers.
#define SN_SCHEDULER __attribute__((no_sanitize("thread"), noinline))

namespace sn_deploy::cuda::test {
namespace {

constexpr std::size_t kStackBytes = 256 * 1024;

struct Fiber {
  Context context;
  std::unique_ptr<char[]> stack{new char[kStackBytes]};
  int index = 0;
  bool done = false;
  void* fake_stack = nullptr;  // the address sanitizer's
  void* thread = nullptr;      // the thread sanitizer's
};

struct Scheduler {
  Context context;
  void* fake_stack = nullptr;
  const void* stack = nullptr;
  std::size_t stack_bytes = 0;
  void* thread = nullptr;
  const std::function<void(int)>* body = nullptr;
  Fiber* current = nullptr;
  bool moved = false;  // whether a fiber has got further
};

Scheduler scheduler;

// Stacks are made once: a launch has a thousand threads, and their pages cost more than what runs on them. At its end a
// fiber has left all functions, and nothing on its stack is poisoned.
std::vector<std::unique_ptr<Fiber>> fibers;

// After every switch into a fiber.
SN_SCHEDULER void arrive_in_fiber(Fiber& fiber) {
#if defined(__SANITIZE_ADDRESS__)
  __sanitizer_finish_switch_fiber(fiber.fake_stack, &scheduler.stack, &scheduler.stack_bytes);
#else
  static_cast<void>(fiber);
#endif
}

// Before every switch out of one. An end orders all that the fiber did before what comes after run_fibers.
SN_SCHEDULER void leave_fiber(Fiber& fiber) {
#if defined(__SANITIZE_ADDRESS__)
  __sanitizer_start_switch_fiber(fiber.done ? nullptr : &fiber.fake_stack, scheduler.stack, scheduler.stack_bytes);
#endif
#if defined(__SANITIZE_THREAD__)
  __tsan_switch_to_fiber(scheduler.thread, fiber.done ? 0 : __tsan_switch_to_fiber_no_sync);
#endif
  static_cast<void>(fiber);
}

SN_SCHEDULER void fiber_main() {
  Fiber& fiber = *scheduler.current;
  arrive_in_fiber(fiber);
  (*scheduler.body)(fiber.index);
  fiber.done = true;
  leave_fiber(fiber);
  switch_context(&fiber.context, &scheduler.context);
}

SN_SCHEDULER void resume(Fiber& fiber) {
  scheduler.current = &fiber;
#if defined(__SANITIZE_ADDRESS__)
  __sanitizer_start_switch_fiber(&scheduler.fake_stack, fiber.stack.get(), kStackBytes);
#endif
#if defined(__SANITIZE_THREAD__)
  __tsan_switch_to_fiber(fiber.thread, __tsan_switch_to_fiber_no_sync);
#endif
  switch_context(&scheduler.context, &fiber.context);
#if defined(__SANITIZE_ADDRESS__)
  __sanitizer_finish_switch_fiber(scheduler.fake_stack, nullptr, nullptr);
#endif
}

void prepare_fiber(Fiber* fiber) {
  prepare_context(&fiber->context, fiber->stack.get(), kStackBytes, fiber_main);
  fiber->done = false;
  fiber->fake_stack = nullptr;
#if defined(__SANITIZE_THREAD__)
  fiber->thread = __tsan_create_fiber(0);
#endif
}

}  // namespace

void run_fibers(int count, int together, const std::function<void(int)>& body) {
  scheduler.body = &body;
#if defined(__SANITIZE_THREAD__)
  scheduler.thread = __tsan_get_current_fiber();
#endif
  std::vector<Fiber*> running;
  for (int i = 0; i < count; ++i) {
    if (fibers.size() == running.size()) fibers.push_back(std::make_unique<Fiber>());
    Fiber* fiber = fibers[static_cast<std::size_t>(i)].get();
    fiber->index = i;
    prepare_fiber(fiber);
    running.push_back(fiber);
  }
  std::mt19937 random(1);
  constexpr unsigned kMostTurnsAlone = 256;  // a sample's, or some of a queue's items
  while (!running.empty()) {
    std::shuffle(running.begin(), running.end(), random);
    const int block = running.front()->index / together;
    unsigned turns = random() % 2 == 0 ? random() % kMostTurnsAlone : 0;
    scheduler.moved = true;
    for (; turns > 0 && scheduler.moved; --turns) {
      scheduler.moved = false;
      for (Fiber* fiber : running) {
        if (fiber->index / together == block && !fiber->done) resume(*fiber);
      }
    }
    scheduler.moved = false;
    for (Fiber* fiber : running) {
      if (!fiber->done) resume(*fiber);
      scheduler.moved = scheduler.moved || fiber->done;
    }
    if (!scheduler.moved) {
      std::fprintf(stderr, "%zu threads wait for each other, and the GPU would hang\n", running.size());
      std::abort();
    }
    running.erase(std::remove_if(running.begin(), running.end(), [](const Fiber* fiber) { return fiber->done; }),
                  running.end());
  }
#if defined(__SANITIZE_THREAD__)
  for (int i = 0; i < count; ++i) __tsan_destroy_fiber(fibers[static_cast<std::size_t>(i)]->thread);
#endif
}

SN_SCHEDULER void yield_fiber(bool first) {
  Fiber& fiber = *scheduler.current;
  if (first) scheduler.moved = true;
  leave_fiber(fiber);
  switch_context(&fiber.context, &scheduler.context);
  arrive_in_fiber(fiber);
}

}  // namespace sn_deploy::cuda::test
