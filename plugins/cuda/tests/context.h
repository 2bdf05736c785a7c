// Where a thread of control goes on. ucontext's swapcontext asks the system for the mask of signals at each switch,
// which took two thirds of what the stand-in did; no fiber has a mask of its own.
#pragma once

#include <cstddef>

#if !defined(__x86_64__)
#include <ucontext.h>
#endif

namespace sn_deploy::cuda::test {

struct Context {
#if defined(__x86_64__)
  void* stack_pointer = nullptr;
#else
  ucontext_t saved;
#endif
};

// The first switch to it calls `main`, which never returns, on this stack.
void prepare_context(Context* context, char* stack, std::size_t stack_bytes, void (*main)());

// Keeps in `from` where this is, and goes on at `to`; returns when something switches to `from`.
void switch_context(Context* from, Context* to);

}  // namespace sn_deploy::cuda::test
