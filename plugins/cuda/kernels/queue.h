// Statistics and what they are applied to in one kernel. Blocks take items from one queue, in which the statistics of a
// sample stand some samples ahead of its application, so that X is read from memory once and the second time from the
// L2 cache; and no block waits for others before it has something else to do, as those of a sample do in `fused`.
//
// Its places: the statistics of `lead` samples; then, in turns, those of one sample more and the application of one
// that went before. Behind each sample's statistics stands the merge of those before, which makes affine maps of them.
//
// An item waits for items before its own place alone, and the first item that isn't finished waits for none: so this
// ends however few blocks run at a time, in whatever order they begin.
#pragma once

#include "cuda/kernels/bodies.h"

namespace sn_deploy::cuda {

enum class Work { kCollect, kMerge, kApply, kNothing, kEnd };

// What stands at a place of the queue.
struct Turn {
  Work work;
  std::int64_t sample;
  std::int64_t item;  // of the sample's statistics, or of its application
};

// Samples go from the last to the first, as in `fused`. A merge stands behind the next sample's statistics, as it would
// wait for its own right behind them; there is none before the first.
SN_HOST_DEVICE Turn turn_at(const Arguments& a, unsigned place) {
  const auto batch = static_cast<unsigned>(a.batch);
  const auto lead = static_cast<unsigned>(a.lead);
  const auto items = static_cast<unsigned>(a.collect_items);
  const auto applied = static_cast<unsigned>(a.apply_items);
  const unsigned collected = items + 1;  // with the merge
  const unsigned both = collected + applied;
  const auto turn = [batch](Work work, unsigned sample, unsigned item) -> Turn {
    return {work, static_cast<std::int64_t>(batch) - 1 - sample, item};
  };
  const auto collect = [items, turn](unsigned sample, unsigned item) -> Turn {
    if (item < items) return turn(Work::kCollect, sample, item);
    return sample > 0 ? turn(Work::kMerge, sample - 1, 0) : Turn{Work::kNothing, 0, 0};
  };
  if (place < lead * collected) return collect(place / collected, place % collected);
  place -= lead * collected;
  if (place < (batch - lead) * both) {
    const unsigned sample = place / both;
    const unsigned item = place % both;
    if (item < collected) return collect(lead + sample, item);
    return turn(Work::kApply, sample, item - collected);
  }
  place -= (batch - lead) * both;
  if (place == 0) return turn(Work::kMerge, batch - 1, 0);
  place -= 1;
  if (place < lead * applied) return turn(Work::kApply, batch - lead + place / applied, place % applied);
  return {Work::kEnd, 0, 0};
}

// Where a sample's blocks tell of what they did, behind the queue's next place: 1 for each item of its statistics, and
// 1 for its affine maps.
SN_HOST_DEVICE unsigned* counter_of(const Arguments& a, std::int64_t sample) {
  return reinterpret_cast<unsigned*>(a.workspace + kBarrierBytes) + sample;
}

SN_HOST_DEVICE Planes lines_of(const Arguments& a, std::int64_t sample) {
  float* lines = reinterpret_cast<float*>(a.workspace + a.lines_offset);
  return {lines + sample * kQueueLineFloats * a.line_stride, a.line_stride};
}

// By a thread that has nothing else to wait for: the first one takes the next place, and asks for the next slice.
template <typename Team>
SN_HOST_DEVICE void arrive(Team& team, const Arguments& a, std::int64_t sample) {
  if (team.thread() == team.threads() - 32) team.arrive(counter_of(a, sample));
}

// Each of these has the first thread take the block's next place while something else is on its way, before a
// synchronisation behind which all threads may read it: `take()`, `tell(place)`.

// An item of a sample's statistics.
template <typename T, Layout kLayout, int V, typename Team, typename Fetch, typename Next>
SN_HOST_DEVICE void collect_turn(Team& team, const Arguments& a, const Turn& turn, Fetch& fetch, const Next& next) {
  auto* kept = reinterpret_cast<T*>(team.shared() + a.slice_offset);
  const Planes near = {reinterpret_cast<float*>(team.shared()), a.plane_floats};
  const std::int64_t part = quotient(turn.item, a.across);
  const Item<T> item = item_of<kLayout, T>(a, turn.sample, part, turn.item - part * a.across);
  fetch_slice<kLayout, V>(fetch, kept, item.slice);
  if (team.thread() == 0) next.tell(next.take());
  collect_item<kLayout, V, int>(team, a, item, kept, static_cast<int>(item.slice.kept_pitch), fetch, near);
  fetch.end();
  arrive(team, a, turn.sample);
}

// From the moments of all parts to the sample's affine maps: in the place of a slice, where there is room for them, or
// else where they are written to.
template <typename T, typename Team, typename Next>
SN_HOST_DEVICE void merge_turn(Team& team, const Arguments& a, const Turn& turn, const Next& next) {
  auto* fold = reinterpret_cast<float*>(team.shared() + a.fold_offset);
  auto* slots = reinterpret_cast<float*>(team.shared() + a.scratch_offset);
  const Planes lines = lines_of(a, turn.sample);
  Planes merged = lines;
  if (a.merges_near != 0) merged.base = reinterpret_cast<float*>(team.shared() + a.slice_offset);
  const Parts<Team> parts = {team, a, moments_of_part(a, turn.sample, 0), false};
  const auto channels = static_cast<int>(a.channels);
  if (team.thread() == 0) {
    const unsigned place = next.take();
    team.await(counter_of(a, turn.sample), static_cast<unsigned>(a.collect_items));
    next.tell(place);
  }
  team.sync();
  parts.merge(0, channels, merged, fold);
  team.sync();
  const LayerPart layer = layer_part(team, a, channels, slots, [&](int c) { return moments_at(merged, c, a.spatial); });
  make_lines<T>(team, a, statistics_of(a, layer), 0, channels, merged);
  team.sync();
  for (int c = team.thread(); c < static_cast<int>(a.line_stride); c += team.threads()) {
    SN_UNROLL
    for (int plane = 0; plane < static_cast<int>(kQueueLineFloats); ++plane) {
      const bool is_centre = plane == 0 && !std::is_same_v<T, float>;  // half types have none
      const float value = c < channels && !is_centre ? merged.plane(plane)[c] : 0.0F;
      lines.plane(plane)[c] = value;  // what is behind the channels is read with them
    }
  }
  team.sync();
  arrive(team, a, turn.sample);
}

template <typename T, Layout kLayout, Epilogue kEpilogue, int V, typename Team, typename Next>
SN_HOST_DEVICE void apply_turn(Team& team, const Arguments& a, const Turn& turn, const Next& next) {
  const std::int64_t along = quotient(turn.item, a.apply_across);
  const Range channels = piece(turn.item - along * a.apply_across, a.apply_channels, a.channels);
  const Range positions = piece(along, a.apply_spatial, a.spatial);
  const Slice<T> slice = slice_of<kLayout, T>(a, turn.sample, channels, positions);
  if (team.thread() == 0) {
    const unsigned place = next.take();
    team.await(counter_of(a, turn.sample), static_cast<unsigned>(a.collect_items) + 1U);
    next.tell(place);
  }
  team.sync();
  const Planes lines = lines_of(a, turn.sample);
  const Planes own = {lines.base + channels.first, lines.stride};
  constexpr int kUnroll = kEpilogue == Epilogue::kAddRelu ? 2 : 4;  // a residual counts as much as X
  apply_slice<kLayout, kEpilogue, kUnroll, V, std::int64_t>(team, slice, slice.x, slice.pitch, LoadLines<T>{own});
}

// Where the first thread takes a place from, and tells it: in shared memory, at one of two places in turns, since
// others may still have to read the one before.
template <typename Team>
struct NextPlace {
  Team& team;
  unsigned* queue;
  unsigned* told;
  SN_HOST_DEVICE unsigned take() const { return team.take(queue); }
  SN_HOST_DEVICE void tell(unsigned place) const { *told = place; }
};

// A queue's counters, in front of it: by a kernel and not by a memset, since a kernel lets the next one begin.
template <typename Team>
SN_HOST_DEVICE void zero(Team& team, const Arguments& a) {
  team.let_next_begin();
  auto* words = reinterpret_cast<unsigned*>(a.workspace);
  const int step = static_cast<int>(team.blocks()) * team.threads();
  int i = static_cast<int>(team.block()) * team.threads() + team.thread();
  team.wait_for_earlier();
  SN_NO_UNROLL
  for (; i < a.zeroed_words; i += step) words[i] = 0;
}

template <typename T, Layout kLayout, Epilogue kEpilogue, int V, typename Team>
SN_HOST_DEVICE void queue(Team& team, const Arguments& a) {
  auto* told = reinterpret_cast<unsigned*>(team.shared() + a.scratch_offset + kExchangeOffset);
  auto* places = reinterpret_cast<unsigned*>(a.workspace);
  typename Team::Fetch fetch(team, team.shared() + a.scratch_offset + kFetchOffset);
  team.wait_for_earlier();
  if (team.thread() == 0) told[0] = team.take(places);
  team.sync();
  for (int own = 0;; own ^= 1) {
    const Turn turn = turn_at(a, told[own]);
    const NextPlace<Team> next = {team, places, told + (own ^ 1)};
    switch (turn.work) {
      case Work::kCollect:
        collect_turn<T, kLayout, V>(team, a, turn, fetch, next);
        break;
      case Work::kMerge:
        merge_turn<T>(team, a, turn, next);
        break;
      case Work::kApply:
        apply_turn<T, kLayout, kEpilogue, V>(team, a, turn, next);
        break;
      case Work::kNothing:
        if (team.thread() == 0) next.tell(next.take());
        team.sync();
        break;
      case Work::kEnd:
        return;
    }
  }
}

}  // namespace sn_deploy::cuda
