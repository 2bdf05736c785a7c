// A 1 x 1 convolution with its SN layer in one kernel, in half types and channels-last: what the kernel is given.
//
// Y = finish(SN(X Wᵀ)), X (N, HW, K), W (C, K), Y and the residual (N, HW, C). Where C is a multiple of K, X is a
// fraction of what the layer reads and writes behind a convolution of its own: so X stays in shared memory, and the
// convolution's output in registers, or is computed twice; it is never in memory.
//
// A cluster of `parts` x `sides` blocks takes a sample: positions are cut into `parts`, channels into `sides`.
#pragma once

#include "cuda/kernels/arguments.h"

namespace sn_deploy::cuda {

// Channels of Y that a warp computes at a time: eight matrices of eight.
inline constexpr int kChunk = 64;
// Positions of one matrix product.
inline constexpr int kTileRows = 16;
// Behind each row in shared memory, so that eight rows at the same column lie in different banks.
inline constexpr int kRowPadding = 8;

// Two neighbouring elements, as a lane holds them for a matrix product.
template <typename T>
struct Pair {
  unsigned bits;
};

struct ConvolutionArguments {
  // Of Y: x is null. blocks_per_sample is `parts`, spatial_per_block what each of them has, channels_per_block what
  // each of the sides has.
  Arguments norm;
  const void* x;
  const void* filter;
  std::int64_t x_positions;       // of a sample of X
  std::int64_t x_width, y_width;  // with a stride
  std::int32_t stride;            // of both directions
  std::int32_t sides, sides_log2;
  std::int64_t moments_offset;  // in shared memory: of each warp's positions
  std::int64_t x_offset, filter_offset;
};

// kStreamed: any number of chunks, each of which the block gets twice: first for its statistics, then to apply.
// kKept: a warp has one chunk and one group of tiles for good, whose product stays in its registers.
enum class Product : std::int32_t { kStreamed = 0, kKept = 1 };

}  // namespace sn_deploy::cuda
