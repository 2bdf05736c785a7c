// How a convolution with its SN layer is launched, as plain host arithmetic.
#pragma once

#include "cuda/convolution/arguments.h"
#include "cuda/prepare.h"
#include "sn_deploy/cuda.h"

namespace sn_deploy::cuda {

// What is to be convolved; the SnCudaProblem beside it is that of Y.
struct Convolution {
  std::int64_t depth = 0;  // K: channels of X
  std::int64_t stride = 1;
  std::int64_t x_height = 0, x_width = 0;
};

// One way to do it.
struct ConvolutionTactic {
  Product product = Product::kStreamed;
  std::int32_t parts = 1;  // of a sample's positions; powers of two, as the next
  std::int32_t sides = 1;  // of the channels of Y
  std::int32_t warps = 8;  // of a block
  std::int32_t tiles = 1;  // of 16 positions that a warp has at a time: 1, 2, or, kept, 4
};

// What the kernels' registers leave room for: streamed, two blocks on a multiprocessor.
constexpr std::int32_t most_warps(Product product, std::int32_t tiles) {
  if (product == Product::kKept) return tiles == 1 ? 16 : 8;
  return tiles == 1 ? 8 : 6;
}
constexpr bool has_tiles(Product product, std::int32_t tiles) {
  return tiles == 1 || tiles == 2 || (product == Product::kKept && tiles == 4);
}

struct ConvolutionLaunch {
  ConvolutionArguments arguments;
  ConvolutionTactic tactic;
  std::int64_t depth;
  std::int64_t grid;
  std::int32_t threads;
  std::int32_t cluster;
  std::int64_t shared_bytes;
};

namespace detail {

inline bool is_power_of_two(std::int64_t value) { return value > 0 && (value & (value - 1)) == 0; }

inline std::int32_t log2_of(std::int64_t power) {
  std::int32_t log = 0;
  while ((std::int64_t{1} << log) < power) ++log;
  return log;
}

// Offsets in shared memory; returns all bytes of a block.
inline std::int64_t lay_out_convolution(const ConvolutionTactic& tactic, std::int64_t depth, std::int64_t rows,
                                        ConvolutionArguments* a) {
  const std::int64_t row_bytes = (depth + kRowPadding) * 2;
  const std::int64_t threads = tactic.warps * 32;
  Arguments& norm = a->norm;
  norm.plane_floats = norm.channels_per_block;
  norm.scratch_offset = norm.plane_floats * floats_per_channel(Split::kSpatial) * 4;
  norm.fold_offset = norm.scratch_offset + kScratchBytes;
  a->moments_offset = norm.fold_offset + threads * 16;
  a->x_offset = a->moments_offset + 2 * tactic.warps * kChunk * kMomentsBytes;
  a->filter_offset = a->x_offset + rows * row_bytes;
  const std::int64_t filters = tactic.product == Product::kKept ? norm.channels_per_block : 2 * kChunk;
  return a->filter_offset + filters * row_bytes;
}

}  // namespace detail

// kTactic where the tactic can't do it on a device with these limits. `problem` is of Y, `tensors.x` the convolution's
// input, `filter` W.
inline Status plan_convolution(const Request& request, const SnCudaProblem& problem, const SnCudaTensors& tensors,
                               const void* filter, const Convolution& convolution, const ConvolutionTactic& tactic,
                               const DeviceLimits& limits, ConvolutionLaunch* launch) {
  const Problem& y = request.problem;
  const std::int64_t depth = convolution.depth;
  const bool known_depth = depth == 64 || depth == 128 || depth == 256 || depth == 512;
  const bool whole = y.has_in && y.type == DataType::kFloat16 && request.storage.layout == Layout::kChannelsLast &&
                     request.storage.stored_channels == y.channels && request.storage.aligned;
  const bool has_epilogue = static_cast<Epilogue>(problem.epilogue) != Epilogue::kRelu;
  if (!whole || !known_depth || !has_epilogue || y.channels % kChunk != 0) return Status::kTactic;
  const std::int64_t s = convolution.stride;
  if (s < 1 || convolution.x_height < 1 || convolution.x_width < 1) return Status::kArgument;
  const std::int64_t y_width = divide_up(convolution.x_width, s);
  if (divide_up(convolution.x_height, s) * y_width != y.spatial) return Status::kArgument;
  const std::int32_t blocks = tactic.parts * tactic.sides;
  if (!detail::is_power_of_two(tactic.parts) || !detail::is_power_of_two(tactic.sides) || tactic.warps < 1 ||
      !has_tiles(tactic.product, tactic.tiles) || tactic.warps > most_warps(tactic.product, tactic.tiles) ||
      blocks > limits.max_cluster || y.channels % (std::int64_t{kChunk} * tactic.sides) != 0 ||
      tactic.parts > y.spatial) {
    return Status::kTactic;
  }
  *launch = {};
  ConvolutionArguments& a = launch->arguments;
  Plan plan = {};
  plan.blocks_per_sample = tactic.parts;
  plan.groups = y.batch;
  plan.channels_per_block = y.channels / tactic.sides;
  plan.spatial_per_block = divide_up(y.spatial, tactic.parts);
  plan.tactic = Tactic::kCluster;
  plan.split = Split::kSpatial;
  a.norm = detail::arguments_of(request, problem, tensors, plan, nullptr);
  a.norm.x = nullptr;
  a.x = tensors.x;
  a.filter = filter;
  a.x_positions = convolution.x_height * convolution.x_width;
  a.x_width = convolution.x_width;
  a.y_width = y_width;
  a.stride = static_cast<std::int32_t>(s);
  a.sides = tactic.sides;
  a.sides_log2 = detail::log2_of(tactic.sides);
  const std::int64_t group_rows = std::int64_t{kTileRows} * tactic.tiles;
  const std::int64_t groups = divide_up(plan.spatial_per_block, group_rows);
  if (tactic.product == Product::kKept && groups * (plan.channels_per_block / kChunk) > tactic.warps) {
    return Status::kTactic;
  }
  launch->shared_bytes = detail::lay_out_convolution(tactic, depth, groups * group_rows, &a);
  if (launch->shared_bytes > limits.shared_bytes || y.batch * blocks > kMaxGridBlocks) return Status::kTactic;
  launch->tactic = tactic;
  launch->depth = depth;
  launch->grid = y.batch * blocks;
  launch->threads = tactic.warps * 32;
  launch->cluster = blocks;
  return Status::kOk;
}

// Tactics worth timing: at most `capacity` into `tactics`; returns how many.
inline std::int32_t list_convolution_tactics(const Request& request, const SnCudaProblem& problem,
                                             const Convolution& convolution, const DeviceLimits& limits,
                                             ConvolutionTactic* tactics, std::int32_t capacity) {
  std::int32_t count = 0;
  const Problem& y = request.problem;
  const auto add = [&](const ConvolutionTactic& tactic) {
    ConvolutionLaunch launch;
    const Status status =
        plan_convolution(request, problem, SnCudaTensors{}, nullptr, convolution, tactic, limits, &launch);
    if (status == Status::kOk && count < capacity) tactics[count++] = tactic;
  };
  for (std::int32_t parts = 1; parts <= limits.max_cluster; parts *= 2) {
    const std::int64_t positions = divide_up(y.spatial, parts);
    for (std::int32_t sides = 1; parts * sides <= limits.max_cluster; sides *= 2) {
      // Each side reads all of X. Where a product is kept that is its price; else it is for batches that leave
      // multiprocessors idle.
      const bool streams = sides == 1 || y.batch * parts * sides <= 2 * std::int64_t{limits.multiprocessors};
      for (const std::int32_t tiles : {1, 2, 4}) {
        const std::int64_t groups = divide_up(positions, std::int64_t{kTileRows} * tiles);
        const std::int64_t items = groups * divide_up(y.channels / sides, kChunk);
        if (items <= most_warps(Product::kKept, tiles)) {
          add({Product::kKept, parts, sides, static_cast<std::int32_t>(items), tiles});
        }
        // As few rounds as the warps allow; or twice as many, of half the warps, where these are many.
        const std::int64_t fewest = divide_up(groups, std::int64_t{most_warps(Product::kStreamed, tiles)});
        for (const std::int64_t rounds : {fewest, 2 * fewest}) {
          const auto warps = static_cast<std::int32_t>(divide_up(groups, rounds));
          if (streams && (rounds == fewest || warps > 2)) {
            add({Product::kStreamed, parts, sides, warps, tiles});
          }
        }
      }
    }
  }
  return count;
}

}  // namespace sn_deploy::cuda
