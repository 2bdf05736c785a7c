// SwitchNorm, SwitchNormRelu and SwitchNormAddRelu on ONNX Runtime's blocked layout.
//
// X is (N, ceil(C / B), HW, B): channels in blocks of B = 8 or 16, float32, the last block padded. Whatever the padding
// holds, NaN too, stays out of all statistics, and Y has 0 there, for a convolution multiplies it by weights of 0.
//
// The result of a sample is the same, to the bit, for any number of threads and in any batch.
#pragma once

#include <cstdint>

#include "core/problem.h"
#include "core/switch_norm.h"
#include "cpu/kernels.h"
#include "cpu/switch_norm.h"

namespace sn_deploy::cpu {

// Bytes that `switch_norm_blocked` needs for a problem that passed `check_blocked`. At most a few MB, or what one
// sample of very many channels or positions needs.
std::int64_t blocked_workspace_bytes(const Problem& problem, std::int64_t block);

// As `switch_norm`, with X, Y and the residual blocked. The parameters are (C), as ever.
Status switch_norm_blocked(const Problem& problem, std::int64_t block, const Weights& weights, Epilogue epilogue,
                           const Tensors& tensors, void* workspace, std::int64_t workspace_size,
                           const Parallel& parallel);

// With kernels of the caller's choice: so tests reach every instruction set. kArgument where the block is no multiple
// of their vectors.
Status switch_norm_blocked_with(const Kernels& kernels, const Problem& problem, std::int64_t block,
                                const Weights& weights, Epilogue epilogue, const Tensors& tensors, void* workspace,
                                std::int64_t workspace_size, const Parallel& parallel);

}  // namespace sn_deploy::cpu
