// Statistics and what they are applied to in one kernel. Blocks take items from one queue, in which the statistics of a
// sample stand some samples ahead of its application, so that X is read from memory once and the second time from the
// L2 cache; and no block waits for others before it has something else to do, as those of a sample do in `fused`.
//
//     statistics of samples 0 … lead - 1; then, for each s: statistics of lead + s, application of s
//
// An item waits for items before its own place alone, and the first item that isn't finished waits for none: so this
// ends however few blocks run at a time, in whatever order they begin.
#pragma once

#include "cuda/kernels/bodies.h"

namespace sn_deploy::cuda {

// What stands at a place of the queue.
struct Turn {
  std::int64_t sample;  // negative behind the queue's end
  std::int64_t item;    // of the sample's statistics, or of its application
  bool applies;
};

// Samples go from the last to the first, as in `fused`.
SN_HOST_DEVICE Turn turn_at(const Arguments& a, unsigned place) {
  const auto batch = static_cast<unsigned>(a.batch);
  const auto lead = static_cast<unsigned>(a.lead);
  const auto collected = static_cast<unsigned>(a.collect_items);
  const auto applied = static_cast<unsigned>(a.apply_items);
  const unsigned both = collected + applied;
  const auto turn = [batch](unsigned sample, unsigned item, bool applies) -> Turn {
    return {static_cast<std::int64_t>(batch - 1 - sample), item, applies};
  };
  if (place < lead * collected) return turn(place / collected, place % collected, false);
  place -= lead * collected;
  if (place < (batch - lead) * both) {
    const unsigned sample = place / both;
    const unsigned item = place % both;
    return item < collected ? turn(lead + sample, item, false) : turn(sample, item - collected, true);
  }
  place -= (batch - lead) * both;
  if (place < lead * applied) return turn(batch - lead + place / applied, place % applied, true);
  return {-1, 0, false};
}

// Where a sample's blocks tell of what they did: behind the queue's next place. 1 for each item of its statistics, and
// 1 for its affine maps.
SN_HOST_DEVICE unsigned* counter_of(const Arguments& a, std::int64_t sample) {
  return reinterpret_cast<unsigned*>(a.workspace + kBarrierBytes) + sample;
}

SN_HOST_DEVICE Planes lines_of(const Arguments& a, std::int64_t sample) {
  float* lines = reinterpret_cast<float*>(a.workspace + a.lines_offset);
  return {lines + sample * kQueueLineFloats * a.line_stride, a.line_stride};
}

// From the moments of all parts to the sample's affine maps, by the block whose item was the last.
template <typename T, typename Team>
SN_HOST_DEVICE void merge_sample(Team& team, const Arguments& a, std::int64_t sample) {
  auto* fold = reinterpret_cast<float*>(team.shared() + a.fold_offset);
  auto* slots = reinterpret_cast<float*>(team.shared() + a.scratch_offset);
  const Planes lines = lines_of(a, sample);
  const Parts<Team> parts = {team, a, moments_of_part(a, sample, 0), false};
  parts.merge(0, static_cast<int>(a.channels), lines, fold);
  team.sync();
  const LayerPart layer =
      layer_part(team, a, static_cast<int>(a.channels), slots, [&](int c) { return moments_at(lines, c, a.spatial); });
  make_lines<T>(team, a, statistics_of(a, layer), 0, static_cast<int>(a.channels), lines);
}

// An item of a sample's statistics, and its merge where it is the last of them.
template <typename T, Layout kLayout, int V, typename Team, typename Fetch>
SN_HOST_DEVICE void collect_turn(Team& team, const Arguments& a, const Turn& turn, Fetch& fetch, unsigned* before) {
  auto* kept = reinterpret_cast<T*>(team.shared() + a.slice_offset);
  const Planes near = {reinterpret_cast<float*>(team.shared()), a.plane_floats};
  const std::int64_t part = quotient(turn.item, a.across);
  const Item<T> item = item_of<kLayout, T>(a, turn.sample, part, turn.item - part * a.across);
  fetch_slice<kLayout, V>(fetch, kept, item.slice);
  collect_item<kLayout, V, int>(team, a, item, kept, static_cast<int>(item.slice.kept_pitch), fetch, near);
  fetch.end();
  if (team.thread() == 0) *before = team.arrive(counter_of(a, turn.sample));
  team.sync();
  if (*before + 1 < static_cast<unsigned>(a.collect_items)) return;
  merge_sample<T>(team, a, turn.sample);
  team.sync();
  if (team.thread() == 0) team.arrive(counter_of(a, turn.sample));
}

template <typename T, Layout kLayout, Epilogue kEpilogue, int V, typename Team>
SN_HOST_DEVICE void apply_turn(Team& team, const Arguments& a, const Turn& turn) {
  const std::int64_t along = quotient(turn.item, a.apply_across);
  const Range channels = piece(turn.item - along * a.apply_across, a.apply_channels, a.channels);
  const Range positions = piece(along, a.apply_spatial, a.spatial);
  const Slice<T> slice = slice_of<kLayout, T>(a, turn.sample, channels, positions);
  if (team.thread() == 0) team.await(counter_of(a, turn.sample), static_cast<unsigned>(a.collect_items) + 1U);
  team.sync();
  const Planes lines = lines_of(a, turn.sample);
  const Planes own = {lines.base + channels.first, lines.stride};
  constexpr int kUnroll = kEpilogue == Epilogue::kAddRelu ? 2 : 4;  // a residual counts as much as X
  apply_slice<kLayout, kEpilogue, kUnroll, V, std::int64_t>(team, slice, slice.x, slice.pitch, LoadLines<T>{own});
}

template <typename T, Layout kLayout, Epilogue kEpilogue, int V, typename Team>
SN_HOST_DEVICE void queue(Team& team, const Arguments& a) {
  auto* told = reinterpret_cast<unsigned*>(team.shared() + a.scratch_offset + kExchangeOffset);  // by the first thread
  auto* next = reinterpret_cast<unsigned*>(a.workspace);
  typename Team::Fetch fetch(team, team.shared() + a.scratch_offset + kFetchOffset);
  team.wait_for_earlier();
  unsigned taken = team.thread() == 0 ? team.take(next) : 0;
  while (true) {
    if (team.thread() == 0) told[0] = taken;
    team.sync();
    const Turn turn = turn_at(a, told[0]);
    if (turn.sample < 0) return;
    // The next place is asked for now, to be there when this item is done: it is a later one, which none before waits
    // for.
    if (team.thread() == 0) taken = team.take(next);
    if (turn.applies) {
      apply_turn<T, kLayout, kEpilogue, V>(team, a, turn);
    } else {
      collect_turn<T, kLayout, V>(team, a, turn, fetch, told + 1);
    }
  }
}

}  // namespace sn_deploy::cuda
