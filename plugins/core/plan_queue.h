// Planning a queue (cuda/kernels/queue.h): its items, how far its statistics are ahead, and its workspace.
#pragma once

#include <algorithm>
#include <cstdint>

#include "core/plan_types.h"

namespace sn_deploy {

// Bytes of an item of the statistics, and of one that is applied: large enough to be worth a place in the queue, small
// enough for several blocks of a multiprocessor.
struct QueueSizes {
  std::int64_t item, apply;
};
constexpr QueueSizes queue_sizes(Tactic tactic) {
  constexpr std::int64_t kKiB = 1024;
  if (tactic == Tactic::kLargeQueue) return {32 * kKiB, 64 * kKiB};
  return {16 * kKiB, 32 * kKiB};
}

// How far large items have to be ahead at least: what is under way at a time is more.
constexpr std::int64_t least_ahead(Tactic tactic) { return tactic == Tactic::kLargeQueue ? 4 : 2; }

constexpr std::int64_t kMostQueueParts = 512;
constexpr std::int32_t kQueueBlocks = 3;      // on a multiprocessor: 80 registers a thread
constexpr std::int64_t kQueueLineFloats = 3;  // of a channel's affine map

// A queue's workspace, by offsets: the queue's next place and a counter for each sample, which are 0 at launch; the
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

// Into how many parts a channel's positions are cut: more for more of them, and for small items. False for more than 64
// bits can tell.
inline bool queue_parts(const Problem& problem, const Storage& storage, Tactic tactic, std::int64_t* parts) {
  std::int64_t row = 0;  // bytes of an item of the fewest channels, over all positions
  if (!multiply(problem.spatial, least_item_channels(storage) * bytes_of(problem.type), &row)) return false;
  *parts = std::clamp<std::int64_t>(divide_up(row, queue_sizes(tactic).item), 1, kMostQueueParts);
  return true;
}

// How many samples the statistics are ahead: `ahead` times 32 KiB of X for each multiprocessor, so that a sample's
// statistics are done when it is to be applied, and its values are still in the L2 cache, through which as much of Y
// goes meanwhile, and of the residual.
inline std::int64_t queue_lead(const Problem& problem, const Storage& storage, std::int32_t multiprocessors,
                               std::int64_t ahead) {
  const std::int64_t sample = elements_of_sample(problem, storage) * bytes_of(problem.type);
  constexpr std::int64_t kUnit = 32 * 1024;
  const std::int64_t samples = divide_up(ahead * multiprocessors * kUnit, sample);
  return std::clamp<std::int64_t>(samples, 1, std::max<std::int64_t>(problem.batch, 1));
}

namespace detail {

// Items are like those of kTwoKernels, but larger: each is a turn of a block's. A sample's moments go to one
// more item, which merges them.
inline Status plan_queue(const Problem& problem, const Storage& storage, const DeviceLimits& limits, Plan* plan) {
  if (plan->vector_elements == 1) return Status::kTactic;
  const bool last = storage.layout == Layout::kChannelsLast;
  const std::int64_t size = bytes_of(problem.type);
  const std::int64_t least_channels = least_item_channels(storage);
  const QueueSizes sizes = queue_sizes(plan->tactic);
  plan->split = Split::kSpatial;
  QueueRoom room;
  if (!queue_parts(problem, storage, plan->tactic, &plan->blocks_per_sample) ||
      !queue_room(problem, plan->blocks_per_sample, &room)) {
    return Status::kTooLarge;
  }
  plan->workspace_bytes = room.bytes;
  plan->threads = 256;
  if (!round_up(divide_up(problem.spatial, plan->blocks_per_sample), plan->vector_elements, &plan->spatial_per_block)) {
    return Status::kTooLarge;
  }
  const std::int64_t in_item = sizes.item / size / plan->spatial_per_block / least_channels * least_channels;
  plan->channels_per_block = std::min(std::max(in_item, least_channels), problem.channels);
  std::int64_t elements = 0;
  std::int64_t slice = 0;
  if (!size_slice(problem, storage, *plan, &elements, &slice)) return Status::kTooLarge;
  if (slice > 2 * sizes.item) return Status::kTactic;  // there are no more parts
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
                   add(places, divide_up(elements_of_sample(problem, storage) * size, sizes.apply), &places) &&
                   multiply(places, problem.batch, &places) && places <= kMostPlaces;
  return few ? Status::kOk : Status::kTactic;
}

}  // namespace detail

// Not where its items leave most of the device idle, nor where it would be no further ahead than the one before it.
inline bool is_worth_a_queue(const Problem& problem, const Storage& storage, const DeviceLimits& limits,
                             const Plan& plan) {
  const std::int64_t items = plan.blocks_per_sample * divide_up(problem.channels, plan.channels_per_block);
  const auto lead = [&](std::int64_t ahead) { return queue_lead(problem, storage, limits.multiprocessors, ahead); };
  const bool further = plan.ahead == least_ahead(plan.tactic) || lead(plan.ahead / 2) < lead(plan.ahead);
  return further && problem.batch * items >= limits.multiprocessors / 2;
}

}  // namespace sn_deploy
