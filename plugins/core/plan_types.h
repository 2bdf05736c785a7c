// What launch plans are made of.
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
  // Both in one kernel: statistics go ahead of what is applied (plan_queue.h).
  kQueue = 5,       // in small items
  kLargeQueue = 6,  // in large ones
};

constexpr bool is_queue(Tactic tactic) { return tactic == Tactic::kQueue || tactic == Tactic::kLargeQueue; }

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
      0;                    // K; of kTwoKernels and queues, the parts that a channel's positions are cut into
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
  std::int64_t ahead = 0;            // of queues, K

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

inline std::int64_t least_item_channels(const Storage& storage) {
  return storage.layout == Layout::kChannelsLast ? kItemChannelsLast : 1;
}

namespace detail {

// Two sums for each channel of each thread's column, of two channels where it can be; or four of a channel, where the
// blocks' moments are merged.
inline std::int64_t fold_bytes(const Plan& plan) { return std::int64_t{plan.threads} * 16; }

// What a block's slice takes in shared memory, with the padding of channels-last where it has all channels. False for
// more than 64 bits can tell.
inline bool size_slice(const Problem& problem, const Storage& storage, const Plan& plan, std::int64_t* elements,
                       std::int64_t* bytes) {
  const bool whole = storage.layout == Layout::kChannelsLast && plan.channels_per_block >= problem.channels;
  const std::int64_t stored = whole ? storage.stored_channels : plan.channels_per_block;
  return multiply(stored, plan.spatial_per_block, elements) && multiply(*elements, bytes_of(problem.type), bytes) &&
         round_up(*bytes, kVectorBytes, bytes);
}

}  // namespace detail
}  // namespace sn_deploy
