#include "cuda/tests/context.h"

#include <algorithm>
#include <cstdint>

// Of the scheduler, as in fibers.cpp.
#define SN_SCHEDULER __attribute__((no_sanitize("thread"), noinline))

#if defined(__x86_64__)

// System V ABI: a function's caller has saved all registers but these, and the stack they lie on. The modes of floating
// point are the same in all fibers.
asm(R"(
  .text
  .p2align 4
  .hidden sn_switch_stacks
  .globl sn_switch_stacks
  .type sn_switch_stacks, @function
sn_switch_stacks:
  pushq %rbp
  pushq %rbx
  pushq %r12
  pushq %r13
  pushq %r14
  pushq %r15
  movq %rsp, (%rdi)
  movq %rsi, %rsp
  popq %r15
  popq %r14
  popq %r13
  popq %r12
  popq %rbx
  popq %rbp
  ret
  .size sn_switch_stacks, .-sn_switch_stacks
)");

extern "C" void sn_switch_stacks(void** from, void* to);

namespace sn_deploy::cuda::test {

SN_SCHEDULER void prepare_context(Context* context, char* stack, std::size_t stack_bytes, void (*main)()) {
  // As sn_switch_stacks leaves it: six registers, and where it returns to. Then comes what main would return to, which
  // is nothing; it lies 8 bytes below a multiple of 16, as after a call.
  constexpr std::size_t kRegisters = 6;
  constexpr std::size_t kWords = kRegisters + 2;
  const std::uintptr_t top = (reinterpret_cast<std::uintptr_t>(stack) + stack_bytes) / 16 * 16;
  auto* words = reinterpret_cast<std::uintptr_t*>(top) - kWords;
  std::fill_n(words, kWords, std::uintptr_t{0});
  words[kRegisters] = reinterpret_cast<std::uintptr_t>(main);
  context->stack_pointer = words;
}

SN_SCHEDULER void switch_context(Context* from, Context* to) {
  sn_switch_stacks(&from->stack_pointer, to->stack_pointer);
}

}  // namespace sn_deploy::cuda::test

#else

namespace sn_deploy::cuda::test {

SN_SCHEDULER void prepare_context(Context* context, char* stack, std::size_t stack_bytes, void (*main)()) {
  getcontext(&context->saved);
  context->saved.uc_stack.ss_sp = stack;
  context->saved.uc_stack.ss_size = stack_bytes;
  context->saved.uc_link = nullptr;
  makecontext(&context->saved, main, 0);
  context->saved.uc_stack.ss_size = 0;  // or the address sanitizer would forget all of the stack at each switch
}

SN_SCHEDULER void switch_context(Context* from, Context* to) { swapcontext(&from->saved, &to->saved); }

}  // namespace sn_deploy::cuda::test

#endif
