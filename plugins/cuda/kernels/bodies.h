// The kernels, for any team of threads: the GPU's (device_team.h), or the host's in tests (tests/host_team.h).
//
//     fused        statistics, exchange, apply; kOneBlock, kCluster and kCooperative
//     statistics   kTwoKernels, first: the moments of each part of each channel, (N, parts, C) in the workspace
//     normalize    kTwoKernels, second: merges the parts, applies
//     queue        both in one (queue.h)
//     row          rank 2
#pragma once

#include "cuda/kernels/channels_last.h"
#include "cuda/kernels/exchange.h"
#include "cuda/kernels/linear.h"

namespace sn_deploy::cuda {

// --- By layout ----------------------------------------------------------------------------------------------------

// Asks for a slice: rows of memory are the channels', or the positions'.
template <Layout kLayout, int V, typename T, typename Fetch>
SN_HOST_DEVICE void fetch_slice(Fetch& fetch, T* kept, const Slice<T>& slice) {
  if constexpr (kLayout == Layout::kLinear) {
    fetch.template begin<(V > 1)>(kept, static_cast<int>(slice.kept_pitch), slice.x, slice.pitch,
                                  static_cast<int>(slice.channels), static_cast<int>(slice.positions));
  } else {
    const int stored = (static_cast<int>(slice.channels) + V - 1) / V * V;
    fetch.template begin<(V > 1)>(kept, static_cast<int>(slice.kept_pitch), slice.x, slice.pitch,
                                  static_cast<int>(slice.positions), stored);
  }
}

// The moments of the slice's channels, read at x, at `into`. Ends with a synchronisation. I is what offsets in the
// slice fit in.
template <Layout kLayout, int V, typename I, typename T, typename Team, typename Fetch>
SN_HOST_DEVICE void collect(Team& team, const Arguments& a, const Slice<T>& slice, const T* x, I pitch, Fetch& fetch,
                            const Planes& into) {
  auto* slots = reinterpret_cast<float*>(team.shared() + a.scratch_offset);
  auto* fold = reinterpret_cast<float*>(team.shared() + a.fold_offset);
  SN_NO_UNROLL
  for (int turn = 0; turn < 2; ++turn) {
    bool bad;
    if constexpr (kLayout == Layout::kLinear) {
      bad = collect_linear<V, I>(team, slice, x, pitch, fetch, slots, into, turn > 0);
    } else {
      bad = collect_last<kColumn<V>, I>(team, slice, x, pitch, fetch, fold, into, turn > 0);
    }
    if (!team.any(bad)) break;
  }
}

// A thread asks for kUnroll vectors at once.
template <Layout kLayout, Epilogue kEpilogue, int kUnroll, int V, typename I, typename T, typename Team,
          typename Constants>
SN_HOST_DEVICE void apply_slice(Team& team, const Slice<T>& slice, const T* x, I pitch, Constants constants) {
  if constexpr (kLayout == Layout::kLinear) {
    apply_linear<kEpilogue, V == 1 ? 2 * kUnroll : kUnroll, V, I>(team, slice, x, pitch, constants);
  } else {
    apply_last<kEpilogue, kUnroll, V, I>(team, slice, x, pitch, constants);
  }
}

// --- The affine maps ------------------------------------------------------------------------------------------------

SN_HOST_DEVICE Affine<float> affine_of(const Arguments& a, Moments<float> moments, Statistics<float> layer,
                                       const ChannelParameters<float>& parameters) {
  return mix(a.weights, channel_statistics(moments, a.in_divisor), layer, parameters);
}

// Centre (the mean), scale and shift, in three planes of shared memory: neighbours in accesses of 16 bytes.
template <typename T>
struct LoadLines {
  Planes from;
  template <int V>
  SN_HOST_DEVICE void operator()(int channel, int count, Line<T> (&lines)[V]) const {
    float values[3][V];
    SN_UNROLL
    for (int plane = std::is_same_v<T, float> ? 0 : 1; plane < 3; ++plane) {
      const float* at = from.plane(plane) + channel;
      if constexpr (V >= 4) {
        SN_UNROLL
        for (int k = 0; k < V; k += 4) {
          const Vector<float, 4> four = load<4>(at + k);
          SN_UNROLL
          for (int i = 0; i < 4; ++i) values[plane][k + i] = four.values[i];
        }
      } else {
        SN_UNROLL
        for (int k = 0; k < V; ++k) values[plane][k] = at[k];
      }
    }
    SN_UNROLL
    for (int k = 0; k < V; ++k) {
      if constexpr (std::is_same_v<T, float>) {
        lines[k] = {values[0][k], values[1][k], values[2][k]};
      } else {
        lines[k] = {values[1][k], values[2][k]};
      }
    }
    static_cast<void>(count);  // the planes end with a whole vector, and what is computed of it is left out
  }
};

template <typename T>
SN_HOST_DEVICE void store_line(const Planes& into, int channel, const Line<T>& line) {
  if constexpr (std::is_same_v<T, float>) into.plane(0)[channel] = line.centre;
  into.plane(1)[channel] = line.scale;
  into.plane(2)[channel] = line.shift;
}

// Of `channels` channels whose moments at(c) gives: what LN needs of them. For all threads of the block.
template <typename I, typename Team, typename At>
SN_HOST_DEVICE LayerPart layer_part(Team& team, const Arguments& a, I channels, float* slots, At at) {
  LayerPart part = {};
  if (channels == 0) return part;  // for the whole block
  const int warps = channels < team.threads() ? (static_cast<int>(channels) + 31) / 32 : team.warps();
  float pivot = at(0).mean;
  SN_NO_UNROLL
  for (int turn = 0;; ++turn) {
    float sums[3] = {};
    for (I c = team.thread(); c < channels; c += team.threads()) {
      const Statistics<float> in = channel_statistics(at(c), a.in_divisor);
      const float apart = in.mean - pivot;
      sums[0] += apart;
      sums[1] += apart * apart;
      sums[2] += in.var;
    }
    sum_block(team, sums, slots, warps);
    const float shift = sums[0] / static_cast<float>(channels);
    const float lost = shift * sums[0];
    const float m2 = sums[1] - lost;
    part = {pivot + shift, m2 < 0.0F ? 0.0F : m2, sums[2]};
    // Where the pivot was too far from the mean, once more about the mean; all threads have the same sums.
    if (turn > 0 || !(lost > 4.0F * (m2 + sums[2]))) return part;
    pivot = part.mean;
    team.sync();
  }
}

SN_HOST_DEVICE Statistics<float> statistics_of(const Arguments& a, LayerPart layer) {
  return {layer.mean, (layer.var_sum + layer.m2) / static_cast<float>(a.channels)};
}

// --- Fused --------------------------------------------------------------------------------------------------------

// From the slice's moments in `own` to its affine maps, which it returns the place of. `parameters` are those of this
// thread's first channel. For all threads of the block; needs a synchronisation before and after.
template <Form kForm, typename T, typename Team>
SN_HOST_DEVICE Planes constants_of_slice(Team& team, const Arguments& a, const Exchange& e, const Slice<T>& slice,
                                         const ChannelParameters<float>& parameters, const Planes& own) {
  const bool by_positions = is_by_positions<kForm>(a);
  Planes merged = own;
  if (by_positions) {
    merged.base = own.plane(3);
    exchange_channels(team, a, e, own, merged, reinterpret_cast<float*>(team.shared() + a.fold_offset));
    team.sync();
  }
  unsigned char* scratch = team.shared() + a.scratch_offset;
  const auto channels = static_cast<int>(slice.channels);
  LayerPart part = layer_part(team, a, channels, reinterpret_cast<float*>(scratch),
                              [&](int c) { return moments_at(merged, c, a.spatial); });
  if (!by_positions && e.blocks > 1) {
    part = exchange_layer(team, a, e, part, reinterpret_cast<float*>(scratch + kExchangeOffset));
  }
  const Statistics<float> layer = statistics_of(a, part);
  for (int c = team.thread(); c < channels; c += team.threads()) {
    const ChannelParameters<float> used = c < team.threads() ? parameters : parameters_of(a, slice.first_channel + c);
    store_line<T>(merged, c, line_of<T>(affine_of(a, moments_at(merged, c, a.spatial), layer, used)));
  }
  return merged;
}

// One sample's slice, read at x, which is shared memory or global.
template <Layout kLayout, Epilogue kEpilogue, Form kForm, int V, typename I, typename T, typename Team, typename Fetch>
SN_HOST_DEVICE void normalize_slice(Team& team, const Arguments& a, const Exchange& e, const Slice<T>& slice,
                                    const ChannelParameters<float>& parameters, const T* x, I pitch, Fetch& fetch) {
  const Planes own = {reinterpret_cast<float*>(team.shared()), a.plane_floats};
  collect<kLayout, V, I>(team, a, slice, x, pitch, fetch, own);
  const Planes constants = constants_of_slice<kForm>(team, a, e, slice, parameters, own);
  // A block must neither overwrite its moments nor end while others of its cluster may still read them.
  if (e.cluster) team.cluster_leave();
  team.sync();
  apply_slice<kLayout, kEpilogue, 2, V, I>(team, slice, x, pitch, LoadLines<T>{constants});
  if (e.cluster) team.cluster_wait();
}

// Samples go from the last to the first: what is before this kernel, a convolution, wrote the last one last, and what
// is behind it reads the first one first. So both find more in the L2 cache where it doesn't hold all of X and Y.
template <typename T, Layout kLayout, Epilogue kEpilogue, Form kForm, int V, typename Team>
SN_HOST_DEVICE void fused(Team& team, const Arguments& a) {
  const bool by_positions = is_by_positions<kForm>(a);
  const bool cluster = a.tactic == static_cast<std::int32_t>(Tactic::kCluster);
  // A power of two, which spares a division.
  const std::int64_t rank = team.block() & (a.blocks_per_sample - 1);
  const std::int64_t group = team.block() >> a.blocks_log2;
  const Range channels = piece(by_positions ? 0 : rank, a.channels_per_block, a.channels);
  const Range positions = piece(by_positions ? rank : 0, a.spatial_per_block, a.spatial);
  Exchange exchange = {group, rank, a.blocks_per_sample, 0, cluster};
  ChannelParameters<float> parameters = {};
  if constexpr (kForm != Form::kRead) {
    auto* kept = reinterpret_cast<T*>(team.shared() + a.slice_offset);
    typename Team::Fetch fetch(team, team.shared() + a.scratch_offset + kFetchOffset);
    team.wait_for_earlier();
    for (std::int64_t sample = a.batch - 1 - group; sample >= 0; sample -= a.groups, ++exchange.turn) {
      const Slice<T> slice = slice_of<kLayout, T>(a, sample, channels, positions);
      if (exchange.turn > 0) team.sync();
      fetch_slice<kLayout, V>(fetch, kept, slice);
      // Asked for here, so that they are there when they are needed.
      if (team.thread() < channels.count) parameters = parameters_of(a, channels.first + team.thread());
      normalize_slice<kLayout, kEpilogue, kForm, V, int>(team, a, exchange, slice, parameters, kept,
                                                         static_cast<int>(slice.kept_pitch), fetch);
      fetch.end();
    }
  } else {
    team.wait_for_earlier();
    if (team.thread() < channels.count) parameters = parameters_of(a, channels.first + team.thread());
    for (std::int64_t sample = a.batch - 1 - group; sample >= 0; sample -= a.groups, ++exchange.turn) {
      const Slice<T> slice = slice_of<kLayout, T>(a, sample, channels, positions);
      if (exchange.turn > 0) team.sync();
      NoFetch fetch;
      normalize_slice<kLayout, kEpilogue, kForm, V, std::int64_t>(team, a, exchange, slice, parameters, slice.x,
                                                                  slice.pitch, fetch);
    }
  }
}

// --- Two kernels --------------------------------------------------------------------------------------------------

// The moments of one item's channels, into the workspace: of some channels of a part of a sample.
template <typename T>
struct Item {
  Slice<T> slice;
  Planes into;
};

// `index` counts a part's items.
template <Layout kLayout, typename T>
SN_HOST_DEVICE Item<T> item_of(const Arguments& a, std::int64_t sample, std::int64_t part, std::int64_t index) {
  const Range channels = piece(index, a.channels_per_block, a.channels);
  const Range positions = piece(part, a.spatial_per_block, a.spatial);
  return {slice_of<kLayout, T>(a, sample, channels, positions),
          {moments_of_part(a, sample, part) + channels.first, a.channels}};
}

template <Layout kLayout, typename T>
SN_HOST_DEVICE Item<T> item_of(const Arguments& a, std::int64_t item) {
  const std::int64_t row = quotient(item, a.across);  // of (N, parts)
  const std::int64_t sample = quotient(row, a.blocks_per_sample);
  return item_of<kLayout, T>(a, sample, row - sample * a.blocks_per_sample, item - row * a.across);
}

// One item, read at x. `near` is in shared memory, for the moments of an item's channels.
template <Layout kLayout, int V, typename I, typename T, typename Team, typename Fetch>
SN_HOST_DEVICE void collect_item(Team& team, const Arguments& a, const Item<T>& item, const T* x, I pitch, Fetch& fetch,
                                 const Planes& near) {
  if constexpr (kLayout == Layout::kLinear) {
    collect<kLayout, V, I>(team, a, item.slice, x, pitch, fetch, item.into);
  } else {
    // Threads read there what others of them stored, so it is first in shared memory, and not in the workspace.
    collect<kLayout, V, I>(team, a, item.slice, x, pitch, fetch, near);
    for (int c = team.thread(); c < static_cast<int>(item.slice.channels); c += team.threads()) {
      item.into.plane(0)[c] = near.plane(0)[c];
      item.into.plane(1)[c] = near.plane(1)[c];
    }
    team.sync();  // before the next item's
  }
}

// Items go round the grid.
template <typename T, Layout kLayout, bool kResident, int V, typename Team>
SN_HOST_DEVICE void statistics(Team& team, const Arguments& a) {
  const Planes near = {reinterpret_cast<float*>(team.shared() + a.scratch_offset + kMomentsOffset), kItemChannelsLast};
  if constexpr (kResident) {
    auto* kept = reinterpret_cast<T*>(team.shared() + a.slice_offset);
    typename Team::Fetch fetch(team, team.shared() + a.scratch_offset + kFetchOffset);
    team.wait_for_earlier();
    team.let_next_begin();
    for (std::int64_t i = team.block(); i < a.items; i += team.blocks()) {
      const Item<T> item = item_of<kLayout, T>(a, i);
      fetch_slice<kLayout, V>(fetch, kept, item.slice);
      collect_item<kLayout, V, int>(team, a, item, kept, static_cast<int>(item.slice.kept_pitch), fetch, near);
      fetch.end();
    }
  } else {
    team.wait_for_earlier();
    team.let_next_begin();
    for (std::int64_t i = team.block(); i < a.items; i += team.blocks()) {
      const Item<T> item = item_of<kLayout, T>(a, i);
      NoFetch fetch;
      collect_item<kLayout, V, std::int64_t>(team, a, item, item.slice.x, item.slice.pitch, fetch, near);
    }
  }
}

// Where the second kernel finds the moments of a sample's parts: in the workspace, or in a copy.
template <typename Team>
struct Parts {
  Team& team;
  const Arguments& a;
  const float* base;  // of the sample's first part
  bool kept;

  SN_HOST_DEVICE const float* at(int part) const { return base + part * a.channels * 2; }
  SN_HOST_DEVICE float read(const float* from) const { return kept ? *from : team.fresh(from); }

  // Of one channel.
  SN_HOST_DEVICE Moments<float> operator()(std::int64_t channel) const {
    const float pivot = read(base + channel);
    const PartSums sums = sum_parts(
        [this](const float* from) { return read(from); }, static_cast<int>(a.blocks_per_sample), 0, 1, pivot,
        a.channels, [this](int part) { return static_cast<float>(piece(part, a.spatial_per_block, a.spatial).count); },
        [this, channel](int part) { return at(part) + channel; });
    return moments_of(sums, pivot);
  }

  // Of `channels` channels from `first` on; as merge_channels.
  SN_HOST_DEVICE void merge(std::int64_t first, int channels, const Planes& merged, float* fold) const {
    merge_channels(
        team, a, static_cast<int>(a.blocks_per_sample), channels, a.channels,
        [this, first](int part) { return at(part) + first; }, [this](const float* from) { return read(from); }, merged,
        fold);
  }
};

// From the moments of `count` channels in `planes`, of which the first is `first`, to their affine maps in their place.
template <typename T, typename Team>
SN_HOST_DEVICE void make_lines(Team& team, const Arguments& a, Statistics<float> layer, std::int64_t first, int count,
                               const Planes& planes) {
  constexpr int kUnroll = 4;  // parameters that are asked for at once
  const int step = team.threads();
  for (int c = team.thread(); c < count; c += kUnroll * step) {
    ChannelParameters<float> parameters[kUnroll] = {};
    SN_UNROLL
    for (int u = 0; u < kUnroll; ++u) {
      if (c + u * step < count) parameters[u] = parameters_of(a, first + c + u * step);
    }
    SN_UNROLL
    for (int u = 0; u < kUnroll; ++u) {
      const int at = c + u * step;
      if (at < count) {
        store_line<T>(planes, at, line_of<T>(affine_of(a, moments_at(planes, at, a.spatial), layer, parameters[u])));
      }
    }
  }
}

// Slices go from the last to the first: what the statistics read last is what the L2 cache still holds. In shared
// memory are the affine maps of all channels and the moments of all parts where these are few enough, else the maps of
// the slice's channels alone.
template <typename T, Layout kLayout, Epilogue kEpilogue, int V, typename Team>
SN_HOST_DEVICE void normalize(Team& team, const Arguments& a) {
  const bool kept = a.keeps_moments != 0;
  const std::int64_t slices = a.batch * a.apply_across * a.apply_along;
  const std::int64_t moments = a.blocks_per_sample * a.channels * 2;  // of a sample
  const Planes planes = {reinterpret_cast<float*>(team.shared()), a.plane_floats};
  auto* slots = reinterpret_cast<float*>(team.shared() + a.scratch_offset);
  auto* fold = reinterpret_cast<float*>(team.shared() + a.fold_offset);
  auto* copy = reinterpret_cast<float*>(team.shared() + a.slice_offset);
  typename Team::Fetch fetch(team, team.shared() + a.scratch_offset + kFetchOffset);
  team.wait_for_earlier();
  for (std::int64_t i = slices - 1 - team.block(); i >= 0; i -= team.blocks()) {
    const std::int64_t row = quotient(i, a.apply_across);
    const std::int64_t sample = quotient(row, a.apply_along);
    const Range channels = piece(i - row * a.apply_across, a.apply_channels, a.channels);
    const Range positions = piece(row - sample * a.apply_along, a.apply_spatial, a.spatial);
    const float* parts = moments_of_part(a, sample, 0);
    team.sync();  // all of the shared memory may be in use
    if (kept) {
      const auto floats = static_cast<int>(moments);
      fetch.template begin<false>(copy, floats, parts, moments, 1, floats);
      for (int piece = 0; piece < fetch.pieces(); ++piece) fetch.wait(piece);
      fetch.end();
    }
    const Parts<Team> of_sample = {team, a, kept ? copy : parts, kept};
    const std::int64_t first = kept ? 0 : channels.first;  // of the planes
    of_sample.merge(first, static_cast<int>(kept ? a.channels : channels.count), planes, fold);
    team.sync();
    const LayerPart part = layer_part(team, a, a.channels, slots, [&](std::int64_t c) {
      return kept ? moments_at(planes, c, a.spatial) : of_sample(c);
    });
    const Planes own = {planes.base + (channels.first - first), planes.stride};
    make_lines<T>(team, a, statistics_of(a, part), channels.first, static_cast<int>(channels.count), own);
    team.sync();
    const Slice<T> slice = slice_of<kLayout, T>(a, sample, channels, positions);
    constexpr int kUnroll = kEpilogue == Epilogue::kAddRelu ? 2 : 4;  // a residual counts as much as X
    apply_slice<kLayout, kEpilogue, kUnroll, V, std::int64_t>(team, slice, slice.x, slice.pitch, LoadLines<T>{own});
  }
}

// --- Rank 2 -------------------------------------------------------------------------------------------------------

template <Epilogue kEpilogue, int V, typename T, typename Team>
SN_HOST_DEVICE void apply_values(Team& team, const Arguments& a, const Slice<T>& slice, Statistics<float> layer) {
  for (std::int64_t j = team.thread(); j < slice.positions / V; j += team.threads()) {
    const Vector<T, V> values = load<V>(slice.x + j * V);
    Vector<T, V> added;
    if constexpr (kEpilogue == Epilogue::kAddRelu) added = load<V>(slice.residual + j * V);
    float results[V];
    SN_UNROLL
    for (int k = 0; k < V; ++k) {
      const Affine<float> affine = mix_row(a.weights, layer, parameters_of(a, j * V + k));
      float plus = 0.0F;
      if constexpr (kEpilogue == Epilogue::kAddRelu) plus = to_float(added.values[k]);
      results[k] = finish<kEpilogue>(apply(affine, to_float(values.values[k])), plus);
    }
    store<V>(slice.y + j * V, rounded<T>(results));
  }
}

// A sample is one row of C values.
template <typename T, int V, typename Team>
SN_HOST_DEVICE void row(Team& team, const Arguments& a) {
  team.wait_for_earlier();
  const Planes result = {reinterpret_cast<float*>(team.shared() + a.scratch_offset + kItemOffset), 4};
  for (std::int64_t sample = team.block(); sample < a.batch; sample += team.blocks()) {
    Slice<T> slice = {};
    slice.x = static_cast<const T*>(a.x) + sample * a.channels;
    slice.residual = a.residual != nullptr ? static_cast<const T*>(a.residual) + sample * a.channels : nullptr;
    slice.y = static_cast<T*>(a.y) + sample * a.channels;
    slice.channels = 1;
    slice.positions = a.channels;
    slice.pitch = a.channels;
    NoFetch fetch;
    collect<Layout::kLinear, V, std::int64_t>(team, a, slice, slice.x, slice.pitch, fetch, result);
    const Statistics<float> layer = row_statistics(moments_at(result, 0, a.channels), a.in_divisor);
    switch (static_cast<Epilogue>(a.epilogue)) {
      case Epilogue::kNone:
        apply_values<Epilogue::kNone, V>(team, a, slice, layer);
        break;
      case Epilogue::kRelu:
        apply_values<Epilogue::kRelu, V>(team, a, slice, layer);
        break;
      case Epilogue::kAddRelu:
        apply_values<Epilogue::kAddRelu, V>(team, a, slice, layer);
        break;
    }
    team.sync();
  }
}

}  // namespace sn_deploy::cuda
