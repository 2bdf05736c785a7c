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

#include "core/problem.h"

namespace sn_deploy {

enum class Layout : std::int32_t {
  kLinear = 0,        // (N, C, HW)
  kChannelsLast = 1,  // (N, HW, stored channels): TensorRT's kHWC, and kHWC8 with the channels padded to 8
};

// The values are part of the C interfaces and of timing caches: add at the end.
enum class Tactic : std::int32_t {
  kOneBlock = 1,     // one block a sample
  kCluster = 2,      // a cluster of K blocks a sample, through distributed shared memory
  kCooperative = 3,  // K co-resident blocks a sample, through global memory and a barrier of their own
  kTwoKernels = 4,   // statistics, then apply
  kQueue = 5,        // both in one kernel: statistics go K items for each multiprocessor ahead of what is applied
};

enum class Split : std::int32_t { kChannels = 0, kSpatial = 1 };

struct DeviceLimits {
  std::int32_t multiprocessors = 0;
  std::int64_t shared_bytes = 48 * 1024;  // the most that one block may ask for
  std::int32_t max_cluster = 1;           // 1 where there are no clusters
  bool cooperative = false;               // whether cooperative launches work, and kernels have code for them
};

struct Storage {
  Layout layout = Layout::kLinear;
  std::int64_t stored_channels = 0;  // channels-last: C with its padding; linear: 0 or C
  bool aligned = true;               // whether all of X's, Y's and the residual's addresses are multiples of 16
};

struct Plan {
  Tactic tactic = Tactic::kTwoKernels;
  Split split = Split::kChannels;
  std::int32_t threads = 0;  // in a block
  std::int64_t blocks_per_sample =
      0;                    // K; of kTwoKernels and kQueue, the parts that a channel's positions are cut into
  std::int64_t groups = 0;  // of K blocks, each taking samples group, group + groups, …
  std::int64_t channels_per_block = 0;
  std::int64_t spatial_per_block = 0;
  std::int32_t vector_elements = 1;  // in an access: 16 bytes, or 1 where rows or addresses don't allow more
  bool resident = false;             // the slice stays in shared memory between its statistics and apply
  std::int64_t plane_floats = 0;     // shared: one float for each of the block's channels, up to a whole vector
  std::int64_t constants_bytes = 0;  // shared: `floats_per_channel` such planes
  std::int64_t fold_bytes = 0;       // shared: each thread's sums of its column, or of a channel's parts
  std::int64_t slice_bytes = 0;      // shared: the slice, if resident
  std::int64_t shared_bytes = 0;     // all, with kScratchBytes
  std::int64_t workspace_bytes = 0;  // global
  std::int64_t ahead = 0;            // kQueue's K

  std::int64_t grid_blocks() const { return groups * blocks_per_sample; }
};

constexpr std::int64_t kVectorBytes = 16;
constexpr std::int64_t kVectorElements = 8;   // at most
constexpr std::int64_t kScratchBytes = 1024;  // reductions over the warps of a block, and what it shows to others
constexpr std::int64_t kMaxGridBlocks = 2147483647;
constexpr std::int32_t kMaxThreads = 1024;  // which leaves a thread 64 registers
constexpr std::int32_t kMaxBlocksPerSample = 64;
constexpr std::int64_t kBarrierBytes = 128;    // a cache line to itself
constexpr std::int64_t kLayerBytes = 4 * 4;    // the layer's mean and variances, over some channels
constexpr std::int64_t kMomentsBytes = 2 * 4;  // a mean and an M2
constexpr std::int64_t kSegmentBytes = 32;     // channels-last: the least to read in one piece, a sector of the caches
// kTwoKernels. An item of the statistics has so many bytes where it can: enough items to keep a device busy with one
// sample. Channels-last, it has so many channels.
constexpr std::int64_t kItemBytes = 8 * 1024;
constexpr std::int64_t kItemChannelsLast = 32;
constexpr std::int64_t kMostItemBytes = 40 * 1024;  // to be kept in shared memory, of which any device has 48 KiB
// Channels times parts whose moments each block of the second kernel takes in: more would be more than what it applies.
constexpr std::int64_t kMergedMoments = 2048;
// kQueue. Items of the statistics and of what is applied: large enough to be worth a place in the queue, small enough
// for several blocks of a multiprocessor.
constexpr std::int64_t kQueueItemBytes = 24 * 1024;
constexpr std::int64_t kQueueApplyBytes = 32 * 1024;
constexpr std::int64_t kQueueMostParts = 512;
constexpr std::int32_t kQueueBlocks = 3;      // on a multiprocessor: 80 registers a thread
constexpr std::int64_t kQueueLineFloats = 3;  // of a channel's affine map

inline bool round_up(std::int64_t value, std::int64_t multiple, std::int64_t* result) {
  return multiply(divide_up(value, multiple), multiple, result);
}

// Elements in one access. Every row (linear) or position (channels-last) has to start at a multiple of 16 bytes.
inline std::int32_t vector_elements(const Problem& problem, const Storage& storage) {
  const std::int64_t in_vector = kVectorBytes / bytes_of(problem.type);
  const bool linear_row = storage.layout == Layout::kLinear;
  const std::int64_t row =
      !problem.has_in ? problem.channels : (linear_row ? problem.spatial : storage.stored_channels);
  return storage.aligned && row % in_vector == 0 ? static_cast<std::int32_t>(in_vector) : 1;
}

// Of X, with the padding of channels-last. check_storage has seen that they can be counted.
inline std::int64_t elements_of_sample(const Problem& problem, const Storage& storage) {
  return (storage.layout == Layout::kLinear ? problem.channels : storage.stored_channels) * problem.spatial;
}

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

// kQueue's workspace, by offsets: the queue's next place and a counter for each sample, which are 0 at launch; the
// moments of each part of each channel, (N, parts, C); the affine maps, in planes, (N, 3, C up to a whole vector).
struct QueueRoom {
  std::int64_t zeroed_bytes, moments, lines, bytes;
};

// False for more than 64 bits can tell.
inline bool queue_room(const Problem& problem, std::int64_t parts, QueueRoom* room) {
  std::int64_t line_floats = 0;  // of a sample
  std::int64_t bytes = 0;
  if (!multiply(problem.batch, std::int64_t{sizeof(std::int32_t)}, &bytes) || !round_up(bytes, kBarrierBytes, &bytes) ||
      !add(bytes, kBarrierBytes, &room->zeroed_bytes)) {
    return false;
  }
  room->moments = room->zeroed_bytes;
  if (!multiply(problem.channels, parts * kMomentsBytes, &bytes) || !multiply(bytes, problem.batch, &bytes) ||
      !round_up(bytes, kVectorBytes, &bytes) || !add(room->moments, bytes, &room->lines)) {
    return false;
  }
  return round_up(problem.channels, kVectorElements, &line_floats) &&
         multiply(line_floats, kQueueLineFloats * 4, &bytes) && multiply(bytes, problem.batch, &bytes) &&
         add(room->lines, bytes, &room->bytes);
}

inline std::int64_t least_item_channels(const Storage& storage) {
  return storage.layout == Layout::kChannelsLast ? kItemChannelsLast : 1;
}

// Into how many parts kQueue cuts a channel's positions; more for more of them. False for more than 64 bits can tell.
inline bool queue_parts(const Problem& problem, const Storage& storage, std::int64_t* parts) {
  std::int64_t row = 0;  // bytes of an item of the fewest channels, over all positions
  if (!multiply(problem.spatial, least_item_channels(storage) * bytes_of(problem.type), &row)) return false;
  *parts = std::clamp<std::int64_t>(divide_up(row, kQueueItemBytes), 1, kQueueMostParts);
  return true;
}

// How many samples the statistics are ahead: those of `ahead` items for each multiprocessor, so that a sample's
// statistics are done when it is to be applied, and its values are still in the L2 cache.
inline std::int64_t queue_lead(const Problem& problem, const Storage& storage, std::int32_t multiprocessors,
                               std::int64_t ahead) {
  const std::int64_t sample = elements_of_sample(problem, storage) * bytes_of(problem.type);
  const std::int64_t samples = divide_up(ahead * multiprocessors * kQueueApplyBytes, sample);
  return std::clamp<std::int64_t>(samples, 1, std::max<std::int64_t>(problem.batch, 1));
}

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

// Two sums for each channel of each thread's column, of two channels where it can be; or four of a channel, where the
// blocks' moments are merged.
inline std::int64_t fold_bytes(const Plan& plan) { return std::int64_t{plan.threads} * 16; }

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

// What a block's slice takes in shared memory, with the padding of channels-last where it has all channels. False for
// more than 64 bits can tell.
inline bool size_slice(const Problem& problem, const Storage& storage, const Plan& plan, std::int64_t* elements,
                       std::int64_t* bytes) {
  const bool whole = storage.layout == Layout::kChannelsLast && plan.channels_per_block >= problem.channels;
  const std::int64_t stored = whole ? storage.stored_channels : plan.channels_per_block;
  return multiply(stored, plan.spatial_per_block, elements) && multiply(*elements, bytes_of(problem.type), bytes) &&
         round_up(*bytes, kVectorBytes, bytes);
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

// kQueue's items are like those of kTwoKernels, but larger: each is a turn of a block's. A sample's moments go to one
// more item, which merges them.
inline Status plan_queue(const Problem& problem, const Storage& storage, const DeviceLimits& limits, Plan* plan) {
  if (plan->vector_elements == 1) return Status::kTactic;
  const bool last = storage.layout == Layout::kChannelsLast;
  const std::int64_t size = bytes_of(problem.type);
  const std::int64_t least_channels = least_item_channels(storage);
  plan->split = Split::kSpatial;
  QueueRoom room;
  if (!queue_parts(problem, storage, &plan->blocks_per_sample) ||
      !queue_room(problem, plan->blocks_per_sample, &room)) {
    return Status::kTooLarge;
  }
  plan->workspace_bytes = room.bytes;
  plan->threads = 256;
  if (!round_up(divide_up(problem.spatial, plan->blocks_per_sample), plan->vector_elements, &plan->spatial_per_block)) {
    return Status::kTooLarge;
  }
  const std::int64_t in_item = kQueueItemBytes / size / plan->spatial_per_block / least_channels * least_channels;
  plan->channels_per_block = std::min(std::max(in_item, least_channels), problem.channels);
  std::int64_t elements = 0;
  std::int64_t slice = 0;
  if (!size_slice(problem, storage, *plan, &elements, &slice)) return Status::kTooLarge;
  if (slice > kMostItemBytes) return Status::kTactic;
  // Channels-last, the moments of an item's channels are in shared memory first.
  if (last && !round_up(plan->channels_per_block, kVectorElements, &plan->plane_floats)) return Status::kTooLarge;
  plan->constants_bytes = plan->plane_floats * kMomentsBytes;
  plan->fold_bytes = fold_bytes(*plan);
  plan->resident = true;
  plan->slice_bytes = slice;
  plan->shared_bytes = plan->constants_bytes + kScratchBytes + plan->fold_bytes + slice;
  if (plan->shared_bytes > limits.shared_bytes) return Status::kTactic;
  // Places in the queue are numbers of 32 bits.
  constexpr std::int64_t kMostPlaces = std::int64_t{1} << 30;
  std::int64_t places = 0;
  const bool few = multiply(problem.channels, plan->blocks_per_sample + 2, &places) &&
                   add(places, divide_up(elements_of_sample(problem, storage) * size, kQueueApplyBytes), &places) &&
                   multiply(places, problem.batch, &places) && places <= kMostPlaces;
  return few ? Status::kOk : Status::kTactic;
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
// `blocks_per_sample` is K, 2 to kMaxBlocksPerSample, for kCluster, kCooperative and kQueue; the others take no notice
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
  if ((several || tactic == Tactic::kQueue) && (blocks_per_sample < 2 || blocks_per_sample > kMaxBlocksPerSample))
    return Status::kTactic;
  if (tactic == Tactic::kCluster && blocks_per_sample > limits.max_cluster) return Status::kTactic;
  Plan result;
  result.tactic = tactic;
  result.blocks_per_sample = several ? blocks_per_sample : 1;
  status = detail::cut_slices(problem, storage, &result);
  if (status != Status::kOk) return status;
  if (tactic == Tactic::kTwoKernels) {
    status = detail::plan_two_kernels(problem, storage, limits, &result);
  } else if (tactic == Tactic::kQueue) {
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

// Not where its items leave most of the device idle, nor where it would be no further ahead than the one before it.
inline bool is_worth_a_queue(const Problem& problem, const Storage& storage, const DeviceLimits& limits,
                             const Plan& plan) {
  const std::int64_t items = plan.blocks_per_sample * divide_up(problem.channels, plan.channels_per_block);
  const bool further = plan.ahead <= 2 || queue_lead(problem, storage, limits.multiprocessors, plan.ahead / 2) <
                                              queue_lead(problem, storage, limits.multiprocessors, plan.ahead);
  return further && (problem.batch >= limits.multiprocessors || problem.batch * items >= limits.multiprocessors / 2);
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
      {Tactic::kCooperative, 64}, {Tactic::kQueue, 2},       {Tactic::kQueue, 4},        {Tactic::kQueue, 8},
      {Tactic::kTwoKernels, 1},
  };
  if (check(problem) != Status::kOk) return 0;
  int count = 0;
  for (const Candidate& candidate : kCandidates) {
    // Blocks without a warp's worth of values only wait for the others.
    if (candidate.blocks > 1 && candidate.blocks > problem.channels * problem.spatial / 32) continue;
    if (count == capacity) break;
    if (make_plan(problem, storage, limits, candidate.tactic, candidate.blocks, &plans[count]) != Status::kOk) continue;
    if (candidate.tactic == Tactic::kQueue && !is_worth_a_queue(problem, storage, limits, plans[count])) continue;
    ++count;
  }
  return count;
}

// The plan to use where nothing can be timed: the fewest blocks a sample with which slices stay in shared memory and
// half of the device is busy, else the most. Where a cluster is possible, no cooperative launch: its barrier is slower.
// No queue: where it is faster has not been measured.
inline Status choose_plan(const Problem& problem, const Storage& storage, const DeviceLimits& limits, Plan* plan) {
  if (plan == nullptr) return Status::kNullPointer;
  const Tactic fallback = problem.has_in ? Tactic::kTwoKernels : Tactic::kOneBlock;
  const Status status = make_plan(problem, storage, limits, fallback, 1, plan);
  if (status != Status::kOk) return status;
  constexpr int kCapacity = 16;
  Plan plans[kCapacity];
  const int count = list_plans(problem, storage, limits, plans, kCapacity);
  for (int i = 0; i < count; ++i) {
    const bool in_items = plans[i].tactic == Tactic::kTwoKernels || plans[i].tactic == Tactic::kQueue;
    if (!plans[i].resident || in_items) continue;
    if (plans[i].tactic == Tactic::kCooperative && plan->tactic == Tactic::kCluster) break;
    *plan = plans[i];
    if (plan->grid_blocks() >= limits.multiprocessors / 2) break;
  }
  return Status::kOk;
}

}  // namespace sn_deploy
