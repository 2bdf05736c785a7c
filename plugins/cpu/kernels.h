// The inner loops, compiled once for each instruction set. `switch_norm.cpp` is their only caller.
#pragma once

#include <cstdint>

#include "core/switch_norm.h"
#include "cpu/switch_norm.h"

namespace sn_deploy::cpu {

// One (C) array of each operator input and statistic, from the first channel of a piece of work on.
struct ChannelArrays {
  const double* mean_in;
  const double* var_in;
  const float* scale;
  const float* bias;
  const float* mean_offset;
  const float* var_offset;
};

// The constants of y = (x - centre) * scale + shift, for some rows or, of rank 2, for some values.
struct AffineArrays {
  float* centre;
  float* scale;
  float* shift;
};

struct Rows {
  const void* x;         // (rows, length), contiguous
  const void* residual;  // like x, or null
  void* y;               // like x
  std::int64_t rows;
  std::int64_t length;
};

// A part of one block of channels.
struct BlockedRows {
  const float* x;         // (positions, block)
  const float* residual;  // like x, or null
  float* y;               // like x
  std::int64_t positions;
  std::int64_t channels;  // 1 to block
};

constexpr int kDataTypes = 3;  // in the order of DataType
constexpr int kEpilogues = 3;  // in the order of Epilogue

// What `blocked.cpp` runs: positions of one block of channels, contiguous, each with the block's values side by side.
struct BlockedKernels {
  // mean and M2 of each channel. Padding has some, too, of whatever is there.
  void (*moments)(const float* x, std::int64_t positions, double* mean, double* m2);

  // y from x, with a constant for each of the `channels` real ones. Lanes from `channels` on become 0.
  void (*apply[kEpilogues])(const BlockedRows& rows, const AffineArrays& constants);
};

struct Kernels {
  const char* name;

  // mean and M2 of each of `rows` contiguous rows.
  void (*moments[kDataTypes])(const void* x, std::int64_t rows, std::int64_t length, double* mean, double* m2);

  // M2 becomes the variance in place, and the LN statistics of the sample are returned.
  Statistics<double> (*layer)(const double* mean_in, double* m2_to_var_in, std::int64_t channels, double divisor);

  // Constants of `count` channels, around their own means (mix) or, of rank 2, around the sample's (mix_row).
  void (*mix)(const MixWeights<double>& weights, const Statistics<double>& ln, const ChannelArrays& channels,
              std::int64_t count, const AffineArrays& out);
  void (*mix_row)(const MixWeights<double>& weights, const Statistics<double>& ln, const ChannelArrays& channels,
                  std::int64_t count, const AffineArrays& out);

  // y from x: one constant a row, or one a value of a single row.
  void (*apply[kDataTypes][kEpilogues])(const Rows& rows, const AffineArrays& constants);
  void (*apply_row[kDataTypes][kEpilogues])(const Rows& row, const AffineArrays& constants);

  // Of blocks of 8 and of 16; null where a vector is longer than the block.
  BlockedKernels blocked[2];
};

enum class InstructionSet { kBaseline, kAvx2, kAvx512 };

// Null where this library or this processor hasn't got it. kBaseline is always there: SSE2 on x86-64, NEON on aarch64.
const Kernels* kernels_of(InstructionSet set);

// The widest there is.
const Kernels& best_kernels();

// The widest whose vectors fit a block of 8 or 16 channels.
const Kernels& best_kernels(std::int64_t block);

// What every call is checked for after its problem: tensors that are null.
Status check_tensors(Epilogue epilogue, const Tensors& tensors);

// `switch_norm` with kernels of the caller's choice: so tests reach every instruction set.
Status switch_norm_with(const Kernels& kernels, const Problem& problem, const Weights& weights, Epilogue epilogue,
                        const Tensors& tensors, void* workspace, std::int64_t workspace_size, const Parallel& parallel);

namespace baseline {
extern const Kernels kKernels;
}
namespace avx2 {
extern const Kernels kKernels;
}
namespace avx512 {
extern const Kernels kKernels;
}

}  // namespace sn_deploy::cpu
