// The kernels, for any team of threads: the GPU's (device_team.h), or the host's in tests (tests/host_team.h).
//
//     fused        statistics, exchange, apply; kOneBlock, kCluster and kCooperative
//     statistics   kTwoKernels, first: the moments of each part of each channel, (N, parts, C) in the workspace
//     normalize    kTwoKernels, second: merges the parts, applies
//     row          rank 2
#pragma once

#include "cuda/kernels/channels_last.h"
#include "cuda/kernels/exchange.h"
#include "cuda/kernels/linear.h"

namespace sn_deploy::cuda {

// --- By layout ----------------------------------------------------------------------------------------------------

template <Layout kLayout, int V, typename T, typename Team, typename Sink>
SN_HOST_DEVICE void collect(Team& team, const Arguments& a, const Slice<T>& slice, Sink sink) {
  if constexpr (kLayout == Layout::kLinear) {
    collect_linear<V>(team, slice, reinterpret_cast<Moments<float>*>(team.shared() + a.scratch_offset), sink);
  } else {
    collect_last<V>(team, slice, reinterpret_cast<float*>(team.shared() + a.fold_offset), sink);
  }
}

template <Layout kLayout, Epilogue kEpilogue, int V, typename T, typename Team, typename Constants>
SN_HOST_DEVICE void apply_slice(Team& team, const Slice<T>& slice, Constants constants) {
  if constexpr (kLayout == Layout::kLinear) {
    apply_linear<kEpilogue, V>(team, slice, constants);
  } else {
    apply_last<kEpilogue, V>(team, slice, constants);
  }
}

template <Layout kLayout, int V, typename T, typename Team, typename Constants>
SN_HOST_DEVICE void apply_slice(Team& team, const Arguments& a, const Slice<T>& slice, Constants constants) {
  switch (static_cast<Epilogue>(a.epilogue)) {
    case Epilogue::kNone:
      return apply_slice<kLayout, Epilogue::kNone, V>(team, slice, constants);
    case Epilogue::kRelu:
      return apply_slice<kLayout, Epilogue::kRelu, V>(team, slice, constants);
    case Epilogue::kAddRelu:
      return apply_slice<kLayout, Epilogue::kAddRelu, V>(team, slice, constants);
  }
}

// --- Three floats a channel, in shared memory or the workspace: moments, and later the affine map -------------------

struct StoreMoments {
  float* into;
  SN_HOST_DEVICE void operator()(std::int64_t channel, Moments<float> moments) const {
    into[channel * 3] = moments.count;
    into[channel * 3 + 1] = moments.mean;
    into[channel * 3 + 2] = moments.m2;
  }
};

SN_HOST_DEVICE Moments<float> moments_at(const float* from, std::int64_t channel) {
  return {from[channel * 3], from[channel * 3 + 1], from[channel * 3 + 2]};
}

struct LoadAffine {
  const float* from;
  SN_HOST_DEVICE Affine<float> operator()(std::int64_t channel) const {
    return {from[channel * 3], from[channel * 3 + 1], from[channel * 3 + 2]};
  }
};

SN_HOST_DEVICE Affine<float> affine_of(const Arguments& a, Moments<float> moments, Statistics<float> layer,
                                       std::int64_t channel) {
  return mix(a.weights, channel_statistics(moments, a.in_divisor), layer, parameters_of(a, channel));
}

// --- Fused --------------------------------------------------------------------------------------------------------

// From the slice's moments in `own` to its affine maps, which it returns the place of. For all threads of the block;
// needs a synchronisation before and after.
template <typename T, typename Team>
SN_HOST_DEVICE float* constants_of_slice(Team& team, const Arguments& a, const Exchange& e, const Slice<T>& slice,
                                         float* own) {
  const bool by_positions = a.split == static_cast<std::int32_t>(Split::kSpatial);
  float* merged = own;
  if (by_positions) {
    merged = own + a.channels * 3;
    exchange_channels(team, a, e, own, merged);
  }
  LayerMoments<float> sum = no_layer_moments<float>();
  for (std::int64_t c = team.thread(); c < slice.channels; c += team.threads()) {
    sum = accumulate(sum, channel_statistics(moments_at(merged, c), a.in_divisor));
  }
  unsigned char* scratch = team.shared() + a.scratch_offset;
  sum = reduce_block(team, sum, reinterpret_cast<LayerMoments<float>*>(scratch));
  if (!by_positions && e.blocks > 1) {
    sum = exchange_layer(team, a, e, sum, reinterpret_cast<float*>(scratch + kExchangeOffset));
  }
  const Statistics<float> layer = layer_statistics(sum);
  for (std::int64_t c = team.thread(); c < slice.channels; c += team.threads()) {
    const Affine<float> affine = affine_of(a, moments_at(merged, c), layer, slice.first_channel + c);
    merged[c * 3] = affine.centre;
    merged[c * 3 + 1] = affine.scale;
    merged[c * 3 + 2] = affine.shift;
  }
  return merged;
}

template <typename T, Layout kLayout, int V, typename Team>
SN_HOST_DEVICE void fused(Team& team, const Arguments& a) {
  const bool by_positions = a.split == static_cast<std::int32_t>(Split::kSpatial);
  const bool cluster = a.tactic == static_cast<std::int32_t>(Tactic::kCluster);
  const std::int64_t rank = team.block() % a.blocks_per_sample;
  const std::int64_t group = team.block() / a.blocks_per_sample;
  const Range channels = piece(by_positions ? 0 : rank, a.channels_per_block, a.channels);
  const Range positions = piece(by_positions ? rank : 0, a.spatial_per_block, a.spatial);
  auto* own = reinterpret_cast<float*>(team.shared());
  T* kept = a.resident != 0 ? reinterpret_cast<T*>(team.shared() + a.slice_offset) : nullptr;
  Exchange exchange = {group, rank, a.blocks_per_sample, 0, cluster};
  for (std::int64_t sample = group; sample < a.batch; sample += a.groups, ++exchange.turn) {
    const Slice<T> slice = slice_of<kLayout>(a, sample, channels, positions, kept);
    collect<kLayout, V>(team, a, slice, StoreMoments{own});
    team.sync();
    const float* constants = constants_of_slice(team, a, exchange, slice, own);
    // A block must neither overwrite its moments nor end while others of its cluster may still read them.
    if (cluster) team.cluster_arrive();
    team.sync();
    apply_slice<kLayout, V>(team, a, slice, LoadAffine{constants});
    if (cluster) team.cluster_wait();
    team.sync();
  }
}

// --- Two kernels --------------------------------------------------------------------------------------------------

// An item is some channels of a part of a sample. Items go round the grid.
template <typename T, Layout kLayout, int V, typename Team>
SN_HOST_DEVICE void statistics(Team& team, const Arguments& a) {
  const std::int64_t across = (a.channels + a.channels_per_block - 1) / a.channels_per_block;
  const std::int64_t items = a.batch * a.blocks_per_sample * across;
  for (std::int64_t item = team.block(); item < items; item += team.blocks()) {
    const std::int64_t row = item / across;  // of (N, parts)
    const Range channels = piece(item % across, a.channels_per_block, a.channels);
    const Range positions = piece(row % a.blocks_per_sample, a.spatial_per_block, a.spatial);
    const Slice<T> slice = slice_of<kLayout, T>(a, row / a.blocks_per_sample, channels, positions, nullptr);
    auto* into = reinterpret_cast<float*>(a.workspace) + (row * a.channels + channels.first) * 3;
    collect<kLayout, V>(team, a, slice, StoreMoments{into});
    team.sync();
  }
}

// The moments of one channel of a sample, from its parts.
SN_HOST_DEVICE Moments<float> merge_parts(const Arguments& a, std::int64_t sample, std::int64_t channel) {
  const float* parts = reinterpret_cast<const float*>(a.workspace) + sample * a.blocks_per_sample * a.channels * 3;
  Moments<float> total = no_moments<float>();
  SN_NO_UNROLL
  for (std::int64_t part = 0; part < a.blocks_per_sample; ++part) {
    total = merge(total, moments_at(parts + part * a.channels * 3, channel));
  }
  return total;
}

// The affine map of a channel of the slice, made as it is used.
struct MakeAffine {
  const Arguments& a;
  Statistics<float> layer;
  std::int64_t sample, first_channel;
  SN_HOST_DEVICE Affine<float> operator()(std::int64_t channel) const {
    return affine_of(a, merge_parts(a, sample, first_channel + channel), layer, first_channel + channel);
  }
};

// Slices go from the last to the first: what the statistics read last is what the L2 cache still holds.
template <typename T, Layout kLayout, int V, typename Team>
SN_HOST_DEVICE void normalize(Team& team, const Arguments& a) {
  const std::int64_t across = (a.channels + a.apply_channels - 1) / a.apply_channels;
  const std::int64_t along = (a.spatial + a.apply_spatial - 1) / a.apply_spatial;
  const std::int64_t slices = a.batch * across * along;
  for (std::int64_t i = slices - 1 - team.block(); i >= 0; i -= team.blocks()) {
    const std::int64_t sample = i / (across * along);
    LayerMoments<float> sum = no_layer_moments<float>();
    for (std::int64_t c = team.thread(); c < a.channels; c += team.threads()) {
      sum = accumulate(sum, channel_statistics(merge_parts(a, sample, c), a.in_divisor));
    }
    sum = reduce_block(team, sum, reinterpret_cast<LayerMoments<float>*>(team.shared() + a.scratch_offset));
    const Range channels = piece(i % across, a.apply_channels, a.channels);
    const Range positions = piece(i / across % along, a.apply_spatial, a.spatial);
    const Slice<T> slice = slice_of<kLayout, T>(a, sample, channels, positions, nullptr);
    apply_slice<kLayout, V>(team, a, slice, MakeAffine{a, layer_statistics(sum), sample, channels.first});
  }
}

// --- Rank 2 -------------------------------------------------------------------------------------------------------

template <Epilogue kEpilogue, int V, typename T, typename Team>
SN_HOST_DEVICE void apply_values(Team& team, const Arguments& a, const Slice<T>& slice, Statistics<float> layer) {
  for (std::int64_t j = team.thread(); j < slice.positions / V; j += team.threads()) {
    Vector<T, V> values = load<V>(slice.x + j * V);
    Vector<T, V> added;
    if constexpr (kEpilogue == Epilogue::kAddRelu) added = load<V>(slice.residual + j * V);
    SN_UNROLL
    for (int k = 0; k < V; ++k) {
      const Affine<float> affine = mix_row(a.weights, layer, parameters_of(a, j * V + k));
      float plus = 0.0F;
      if constexpr (kEpilogue == Epilogue::kAddRelu) plus = to_float(added.values[k]);
      values.values[k] = from_float<T>(finish<kEpilogue>(apply(affine, to_float(values.values[k])), plus));
    }
    store<V>(slice.y + j * V, values);
  }
}

// A sample is one row of C values.
template <typename T, int V, typename Team>
SN_HOST_DEVICE void row(Team& team, const Arguments& a) {
  auto* slots = reinterpret_cast<Moments<float>*>(team.shared() + a.scratch_offset);
  auto* result = reinterpret_cast<float*>(team.shared() + a.scratch_offset + kItemOffset);
  for (std::int64_t sample = team.block(); sample < a.batch; sample += team.blocks()) {
    Slice<T> slice = {};
    slice.x = static_cast<const T*>(a.x) + sample * a.channels;
    slice.residual = a.residual != nullptr ? static_cast<const T*>(a.residual) + sample * a.channels : nullptr;
    slice.y = static_cast<T*>(a.y) + sample * a.channels;
    slice.channels = 1;
    slice.positions = a.channels;
    collect_linear<V>(team, slice, slots, StoreMoments{result});
    team.sync();
    const Statistics<float> layer = row_statistics(moments_at(result, 0), a.in_divisor);
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
