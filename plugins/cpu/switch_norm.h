// SwitchNorm, SwitchNormRelu and SwitchNormAddRelu on the CPU, on raw pointers.
//
// The result of a sample is the same, to the bit, for any number of threads and in any batch.
#pragma once

#include <cstddef>
#include <cstdint>

#include "core/problem.h"
#include "core/switch_norm.h"

namespace sn_deploy::cpu {

// The operator's attributes.
struct Weights {
  float mean_in, mean_ln, var_in, var_ln;
};

// Tensors in row-major order, at any address: no alignment is needed. `y` may be `x`, and may be `residual`; it may
// overlap neither in any other way.
struct Tensors {
  const void* x;             // (N, C, HW), of the problem's type
  const float* scale;        // (C), and so are the next three
  const float* bias;         //
  const float* mean_offset;  //
  const float* var_offset;   //
  const void* residual;      // like x, for kAddRelu; else null
  void* y;                   // like x
};

// Where the work may be spread over threads: calls task(context, i) for each i below `tasks`, in any order and at any
// time before it returns, on any thread. False where it couldn't.
struct Parallel {
  bool (*run)(void* pool, void (*task)(void* context, std::size_t i), void* context, std::size_t tasks);
  void* pool;
};

// Every task on the calling thread.
Parallel no_threads();

// Bytes that `switch_norm` needs for a problem that passed `check`. At most a few MB, or what one sample of very many
// channels needs.
std::int64_t workspace_bytes(const Problem& problem);

// Computes y. `workspace` is aligned to 8 bytes and not shared by calls at the same time; it needs no initialising.
//
// Returns a status of `check` and `check_weights`, or kNullPointer, kWorkspace, kMisaligned (the workspace), or
// kThreads; y is whole only with kOk.
Status switch_norm(const Problem& problem, const Weights& weights, Epilogue epilogue, const Tensors& tensors,
                   void* workspace, std::int64_t workspace_size, const Parallel& parallel);

}  // namespace sn_deploy::cpu
