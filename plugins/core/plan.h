// Launch planning for the GPU as plain host arithmetic: which block computes what, in how much memory.
//
// A sample is sliced over K blocks, by channels where they are enough (IN stays within a block; three floats a block
// cross over for LN) and by positions else (mean and M2 of every channel cross over, merged in the order of the
// blocks). A slice that fits in shared memory is read from global memory once; else it is read twice.
//
// For one tactic and K nothing but `groups` depends on the batch, so a sample's result has the same bits whatever batch
// it comes in, and the workspace of a smaller batch or spatial extent fits in the workspace of a larger one. That of
// fewer channels needn't: they may be split by positions, with moments of every channel.
#pragma once

#include <algorithm>
#include <cstdint>

#include "core/plan_queue.h"
#include "core/plan_types.h"
#include "core/problem.h"

namespace sn_deploy {

// By channels, unless that leaves blocks idle for more than an eighth of the time. Channels-last goes by positions
// instead where a block's channels would be too short a piece of memory; many channels in few positions would have
// every block read more moments than values.
inline Split choose_split(const Problem& problem, const Storage& storage, std::int64_t blocks) {
  if (blocks == 1) return Split::kChannels;
  if (storage.layout == Layout::kChannelsLast) {
    if (problem.channels / blocks * bytes_of(problem.type) >= kSegmentBytes) return Split::kChannels;
    return problem.spatial >= 4 * blocks ? Split::kSpatial : Split::kChannels;
  }
  const std::int64_t slots = divide_up(problem.channels, blocks) * blocks;
  return problem.channels >= blocks && (slots - problem.channels) <= slots / 8 ? Split::kChannels : Split::kSpatial;
}

// A mean and an M2, then centre, scale and shift. With a split by positions the block's own moments stay readable for
// the others while it merges theirs.
inline std::int64_t floats_per_channel(Split split) { return split == Split::kSpatial ? 6 : 3; }

namespace detail {

// Eight accesses or more a thread, eight warps at least, which wait for memory in turns; and no more than half of a
// multiprocessor's threads where two blocks' slices fit in its memory, so that one of them works while the other waits.
// A power of two, as rows and columns are in most nets: else some of the threads have none.
inline std::int32_t choose_threads(std::int64_t elements, std::int32_t vector, std::int64_t slice_bytes) {
  constexpr std::int64_t kAlone = 110 * 1024;
  constexpr std::int32_t kLeast = 256;
  const std::int64_t accesses = divide_up(elements, vector);
  const std::int32_t most = slice_bytes > kAlone ? kMaxThreads : kMaxThreads / 2;
  std::int32_t threads = kLeast;
  while (threads < most && accesses > std::int64_t{8} * threads) threads *= 2;
  return threads;
}

inline Status cut_slices(const Problem& problem, const Storage& storage, Plan* plan) {
  const std::int64_t blocks = plan->blocks_per_sample;
  plan->split = choose_split(problem, storage, blocks);
  plan->vector_elements = vector_elements(problem, storage);
  plan->channels_per_block = problem.channels;
  plan->spatial_per_block = problem.spatial;
  if (plan->split == Split::kChannels) {
    plan->channels_per_block = divide_up(problem.channels, blocks);
    // A slice of channels-last must not begin within a vector.
    if (storage.layout == Layout::kChannelsLast && blocks > 1 &&
        !round_up(plan->channels_per_block, plan->vector_elements, &plan->channels_per_block)) {
      return Status::kTooLarge;
    }
  } else if (!round_up(divide_up(problem.spatial, blocks), plan->vector_elements, &plan->spatial_per_block)) {
    return Status::kTooLarge;
  }
  return Status::kOk;
}

inline Status size_shared_memory(const Problem& problem, const Storage& storage, const DeviceLimits& limits,
                                 Plan* plan) {
  std::int64_t elements = 0;
  std::int64_t slice = 0;
  if (!size_slice(problem, storage, *plan, &elements, &slice)) return Status::kTooLarge;
  plan->threads = choose_threads(elements, plan->vector_elements, slice);
  if (storage.layout == Layout::kChannelsLast || plan->split == Split::kSpatial) plan->fold_bytes = fold_bytes(*plan);
  // Rank 2 has one mean and one variance a sample: its constants are made as they are used.
  const std::int64_t with_constants = problem.has_in ? plan->channels_per_block : 0;
  if (!round_up(with_constants, kVectorElements, &plan->plane_floats) ||
      !multiply(plan->plane_floats, floats_per_channel(plan->split) * 4, &plan->constants_bytes)) {
    return Status::kTooLarge;
  }
  if (!add(plan->constants_bytes, kScratchBytes + plan->fold_bytes, &plan->shared_bytes)) return Status::kTooLarge;
  if (plan->shared_bytes > limits.shared_bytes) return Status::kTactic;
  // Kernels for slices that are kept have offsets of 32 bits, in Y too, where positions may lie far apart.
  std::int64_t extent = 0;
  const bool near = multiply(plan->spatial_per_block, std::max(storage.stored_channels, std::int64_t{1}), &extent) &&
                    extent <= INT32_MAX;
  // Rank 2 keeps nothing: a row of one sample is read from the caches again.
  plan->resident = problem.has_in && near && slice <= limits.shared_bytes - plan->shared_bytes;
  // What is read twice, and in single elements, two kernels read as well.
  if (!plan->resident && plan->vector_elements == 1 && problem.has_in) return Status::kTactic;
  plan->slice_bytes = plan->resident ? slice : 0;
  plan->shared_bytes += plan->slice_bytes;
  return Status::kOk;
}

// What one block shows to the others of its sample.
inline bool exchange_bytes(const Problem& problem, Split split, std::int64_t* bytes) {
  *bytes = kLayerBytes;
  return split == Split::kChannels ||
         (multiply(problem.channels, kMomentsBytes, bytes) && round_up(*bytes, kVectorBytes, bytes));
}

// For each group: a barrier, and every block's exchange twice, so that a block may write the next sample's while others
// still read this one's.
inline Status plan_cooperative(const Problem& problem, const DeviceLimits& limits, Plan* plan) {
  if (!limits.cooperative || limits.multiprocessors < plan->blocks_per_sample) return Status::kTactic;
  plan->groups = std::min(plan->groups, limits.multiprocessors / plan->blocks_per_sample);
  std::int64_t bytes = 0;
  if (!exchange_bytes(problem, plan->split, &bytes) || !multiply(bytes, 2 * plan->blocks_per_sample, &bytes) ||
      !add(bytes, kBarrierBytes, &bytes) || !multiply(bytes, plan->groups, &bytes)) {
    return Status::kTooLarge;
  }
  plan->workspace_bytes = bytes;
  return Status::kOk;
}

// The first kernel's items are some channels of a part of a sample: each channel's positions are cut into
// `blocks_per_sample` parts of `spatial_per_block`, and the moments of each written, as (N, parts, C); the second
// merges them in that order. What doesn't fit in shared memory is read where it lies, so this runs everywhere.
inline Status plan_two_kernels(const Problem& problem, const Storage& storage, const DeviceLimits& limits, Plan* plan) {
  const bool last = storage.layout == Layout::kChannelsLast;
  const std::int64_t size = bytes_of(problem.type);
  std::int64_t row = 0;  // bytes of an item of the fewest channels, over all positions
  if (!multiply(problem.spatial, least_item_channels(storage) * size, &row)) return Status::kTooLarge;
  const std::int64_t few = std::max<std::int64_t>(kMergedMoments / problem.channels, 1);
  const std::int64_t parts = std::max(std::min(divide_up(row, kItemBytes), few), divide_up(row, kMostItemBytes));
  plan->split = Split::kSpatial;
  plan->blocks_per_sample = std::clamp<std::int64_t>(parts, 1, kMaxBlocksPerSample);
  plan->threads = 256;
  if (!round_up(divide_up(problem.spatial, plan->blocks_per_sample), plan->vector_elements, &plan->spatial_per_block)) {
    return Status::kTooLarge;
  }
  const std::int64_t in_item = last ? kItemChannelsLast : kItemBytes / size / plan->spatial_per_block;
  plan->channels_per_block = std::clamp<std::int64_t>(in_item, 1, problem.channels);
  plan->fold_bytes = last ? fold_bytes(*plan) : 0;
  plan->shared_bytes = kScratchBytes + plan->fold_bytes;
  std::int64_t elements = 0;
  std::int64_t slice = 0;
  // A part may be a little longer than it was meant to be: up to a whole vector, and of all channels with their
  // padding.
  plan->resident = size_slice(problem, storage, *plan, &elements, &slice) && slice <= kMostItemBytes + kItemBytes / 4 &&
                   slice <= limits.shared_bytes - plan->shared_bytes;
  plan->slice_bytes = plan->resident ? slice : 0;
  plan->shared_bytes += plan->slice_bytes;
  std::int64_t rows = 0;
  std::int64_t bytes = 0;
  if (!multiply(problem.batch, problem.channels, &rows) || !multiply(rows, plan->blocks_per_sample, &rows) ||
      !multiply(rows, kMomentsBytes, &bytes) || !round_up(bytes, kVectorBytes, &bytes)) {
    return Status::kTooLarge;
  }
  plan->workspace_bytes = bytes;
  return Status::kOk;
}

inline Status check_storage(const Problem& problem, const Storage& storage) {
  const bool last = storage.layout == Layout::kChannelsLast;
  if (last && (!problem.has_in || storage.stored_channels < problem.channels)) return Status::kTactic;
  std::int64_t bytes = 0;
  const std::int64_t stored = last ? storage.stored_channels : problem.channels;
  if (!multiply(stored, problem.spatial, &bytes) || !multiply(bytes, bytes_of(problem.type), &bytes) ||
      !multiply(bytes, problem.batch, &bytes)) {
    return Status::kTooLarge;
  }
  return Status::kOk;
}

}  // namespace detail

// Plans one tactic.
//
// `blocks_per_sample` is K, 2 to kMaxBlocksPerSample, for kCluster, kCooperative and queues; the others take no notice
// of it. Gives kTactic where the device can't run the tactic, or it doesn't suit the problem; kTwoKernels always runs a
// problem of rank 3 and more, kOneBlock always one of rank 2. `plan` is set only with kOk.
inline Status make_plan(const Problem& problem, const Storage& storage, const DeviceLimits& limits, Tactic tactic,
                        std::int64_t blocks_per_sample, Plan* plan) {
  if (plan == nullptr) return Status::kNullPointer;
  Status status = check(problem);
  if (status == Status::kOk) status = detail::check_storage(problem, storage);
  if (status != Status::kOk) return status;
  const bool several = tactic == Tactic::kCluster || tactic == Tactic::kCooperative;
  if (!problem.has_in && tactic != Tactic::kOneBlock) return Status::kTactic;
  const bool has_k = several || is_queue(tactic);
  if (has_k && (blocks_per_sample < 2 || blocks_per_sample > kMaxBlocksPerSample)) return Status::kTactic;
  if (tactic == Tactic::kCluster && blocks_per_sample > limits.max_cluster) return Status::kTactic;
  Plan result;
  result.tactic = tactic;
  result.blocks_per_sample = several ? blocks_per_sample : 1;
  status = detail::cut_slices(problem, storage, &result);
  if (status != Status::kOk) return status;
  if (tactic == Tactic::kTwoKernels) {
    status = detail::plan_two_kernels(problem, storage, limits, &result);
  } else if (is_queue(tactic)) {
    result.ahead = blocks_per_sample;
    status = detail::plan_queue(problem, storage, limits, &result);
  } else {
    status = detail::size_shared_memory(problem, storage, limits, &result);
  }
  result.groups = std::min(problem.batch, kMaxGridBlocks / result.blocks_per_sample);
  if (status == Status::kOk && tactic == Tactic::kCooperative) {
    status = detail::plan_cooperative(problem, limits, &result);
  }
  if (status == Status::kOk) *plan = result;
  return status;
}

// Every plan worth timing, at most `capacity`; returns their number. What TensorRT is offered.
inline int list_plans(const Problem& problem, const Storage& storage, const DeviceLimits& limits, Plan* plans,
                      int capacity) {
  struct Candidate {
    Tactic tactic;
    std::int64_t blocks;
  };
  constexpr Candidate kCandidates[] = {
      {Tactic::kOneBlock, 1},     {Tactic::kCluster, 2},     {Tactic::kCluster, 4},      {Tactic::kCluster, 8},
      {Tactic::kCluster, 16},     {Tactic::kCooperative, 8}, {Tactic::kCooperative, 16}, {Tactic::kCooperative, 32},
      {Tactic::kCooperative, 64}, {Tactic::kQueue, 2},       {Tactic::kQueue, 4},        {Tactic::kLargeQueue, 4},
      {Tactic::kTwoKernels, 1},
  };
  if (check(problem) != Status::kOk) return 0;
  int count = 0;
  for (const Candidate& candidate : kCandidates) {
    // Blocks without a warp's worth of values only wait for the others.
    if (candidate.blocks > 1 && candidate.blocks > problem.channels * problem.spatial / 32) continue;
    if (count == capacity) break;
    if (make_plan(problem, storage, limits, candidate.tactic, candidate.blocks, &plans[count]) != Status::kOk) continue;
    if (is_queue(candidate.tactic) && !is_worth_a_queue(problem, storage, limits, plans[count])) continue;
    ++count;
  }
  return count;
}

// The plan to use where nothing can be timed: the fewest blocks a sample with which slices stay in shared memory and
// half of the device is busy, else the most. Where a cluster is possible, no cooperative launch: its barrier is slower.
// No queue: where it is faster has not been measured.
inline Status choose_plan(const Problem& problem, const Storage& storage, const DeviceLimits& limits, Plan* plan) {
  const Tactic fallback = problem.has_in ? Tactic::kTwoKernels : Tactic::kOneBlock;
  const Status status = make_plan(problem, storage, limits, fallback, 1, plan);
  if (status != Status::kOk) return status;
  constexpr int kCapacity = 16;
  Plan plans[kCapacity];
  const int count = list_plans(problem, storage, limits, plans, kCapacity);
  for (int i = 0; i < count; ++i) {
    const bool in_items = plans[i].tactic == Tactic::kTwoKernels || is_queue(plans[i].tactic);
    if (!plans[i].resident || in_items) continue;
    if (plans[i].tactic == Tactic::kCooperative && plan->tactic == Tactic::kCluster) break;
    *plan = plans[i];
    if (plan->grid_blocks() >= limits.multiprocessors / 2) break;
  }
  return Status::kOk;
}

}  // namespace sn_deploy
