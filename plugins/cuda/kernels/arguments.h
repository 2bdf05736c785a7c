// What every kernel is given, by value, and how a block finds its share.
#pragma once

#include <cstdint>

#include "core/plan.h"
#include "core/switch_norm.h"

namespace sn_deploy::cuda {

struct Arguments {
  const void* x;
  const float* scale;
  const float* bias;
  const float* mean_offset;
  const float* var_offset;
  const void* residual;
  void* y;
  unsigned char* workspace;

  std::int64_t batch, channels, spatial;
  std::int64_t stored_channels;     // of channels-last
  std::int64_t blocks_per_sample;   // K; of kTwoKernels and queues, the parts that a channel's positions are cut into
  std::int64_t groups;              // of K blocks
  std::int64_t channels_per_block;  // of kTwoKernels and queues: how many channels an item of the statistics has
  std::int64_t spatial_per_block;
  // kTwoKernels and queues: how many items of the statistics lie side by side in a sample's channels, and of all; the
  // same of the slices that are applied, and how large these are.
  std::int64_t across, items;
  std::int64_t apply_channels, apply_spatial;
  std::int64_t apply_across, apply_along;
  // Of kTwoKernels and queues, where in the workspace the moments of each part of each channel are, (N, parts, C).
  std::int64_t moments_offset;
  // Queues: where its affine maps are, (N, 3, line_stride); the items of a sample's statistics, and of its application;
  // how many samples the statistics are ahead.
  std::int64_t lines_offset, line_stride;
  std::int64_t collect_items, apply_items;
  std::int64_t lead;

  std::int64_t plane_floats;    // in shared memory, of each of the constants
  std::int64_t scratch_offset;  // behind the constants
  std::int64_t fold_offset;
  std::int64_t slice_offset;

  MixWeights<float> weights;
  float in_divisor;          // HW - ddof; of rank 2, C - ddof
  std::int32_t blocks_log2;  // of a power of two; else not used
  std::int32_t tactic;
  std::int32_t split;
  std::int32_t epilogue;
  std::int32_t zeroed_words;   // queues: of 4 bytes, at the workspace's beginning
  std::int32_t merges_near;    // queues: a slice's place has room for a sample's affine maps
  std::int32_t keeps_moments;  // kTwoKernels' second: shared memory holds the moments of all channels and parts
};

// Slices of a fused kernel: read where they lie, however they are cut; or kept in shared memory, and cut by channels or
// by positions. A kernel for each: neither needs the other's code, which a short kernel waits for.
enum class Form : std::int32_t { kRead = 0, kKeptByChannels = 1, kKeptByPositions = 2 };

inline Form form_of(bool resident, const Arguments& a) {
  if (!resident) return Form::kRead;
  return a.split == static_cast<std::int32_t>(Split::kSpatial) ? Form::kKeptByPositions : Form::kKeptByChannels;
}

template <Form kForm>
SN_HOST_DEVICE bool is_by_positions(const Arguments& a) {
  if constexpr (kForm == Form::kRead) return a.split == static_cast<std::int32_t>(Split::kSpatial);
  return kForm == Form::kKeptByPositions;
}

// Of a queue: for each sample its items, and a merge, of the sample before; and the last sample's merge.
SN_HOST_DEVICE std::int64_t places_of(const Arguments& a) {
  return a.batch * (a.collect_items + 1 + a.apply_items) + 1;
}

// kScratchBytes, divided.
inline constexpr std::int64_t kExchangeOffset = 512;  // behind three floats for each of 32 warps
inline constexpr std::int64_t kItemOffset = kExchangeOffset + 64;
inline constexpr std::int64_t kFetchOffset = kItemOffset + 64;     // 8 bytes for each of 8 pieces
inline constexpr std::int64_t kMomentsOffset = kFetchOffset + 64;  // of channels-last, an item's channels
static_assert(kMomentsOffset + kItemChannelsLast * kMomentsBytes <= kScratchBytes, "an item's moments");

// A block's share of one sample. Empty where there are more blocks than channels or positions.
template <typename T>
struct Slice {
  const T* x;         // at the share's first element
  const T* residual;  // the same, or null
  T* y;               // the same
  std::int64_t first_channel, channels;
  std::int64_t positions;
  std::int64_t pitch;       // linear: elements between two channels; channels-last: between two positions
  std::int64_t kept_pitch;  // the same in a copy
  std::int64_t padding;     // channels-last: stored behind the share's channels, to be zeroed
};

SN_HOST_DEVICE std::int64_t least(std::int64_t a, std::int64_t b) { return a < b ? a : b; }
SN_HOST_DEVICE std::int64_t most(std::int64_t a, std::int64_t b) { return a > b ? a : b; }

// Of numbers from 0 on: the GPU has no division of 64 bits, and what it does in its place takes hundreds of cycles.
SN_HOST_DEVICE std::int64_t quotient(std::int64_t a, std::int64_t b) {
  if (((a | b) >> 32) == 0) return static_cast<std::uint32_t>(a) / static_cast<std::uint32_t>(b);
  return a / b;
}

struct Range {
  std::int64_t first, count;
};

// Piece `index` of [0, total), which is cut into pieces of `size`.
SN_HOST_DEVICE Range piece(std::int64_t index, std::int64_t size, std::int64_t total) {
  const std::int64_t first = least(index * size, total);
  return {first, least(size, total - first)};
}

template <Layout kLayout, typename T>
SN_HOST_DEVICE Slice<T> slice_of(const Arguments& a, std::int64_t sample, Range channels, Range positions) {
  Slice<T> slice = {};
  std::int64_t offset;
  if constexpr (kLayout == Layout::kLinear) {
    offset = (sample * a.channels + channels.first) * a.spatial + positions.first;
    slice.pitch = a.spatial;
    slice.kept_pitch = a.spatial_per_block;
  } else {
    offset = (sample * a.spatial + positions.first) * a.stored_channels + channels.first;
    slice.pitch = a.stored_channels;
    slice.kept_pitch = a.channels_per_block >= a.channels ? a.stored_channels : a.channels_per_block;
    const bool last = channels.count > 0 && channels.first + channels.count == a.channels;
    slice.padding = last ? a.stored_channels - a.channels : 0;
  }
  slice.x = static_cast<const T*>(a.x) + offset;
  slice.residual = a.residual != nullptr ? static_cast<const T*>(a.residual) + offset : nullptr;
  slice.y = static_cast<T*>(a.y) + offset;
  slice.first_channel = channels.first;
  slice.channels = channels.count;
  slice.positions = positions.count;
  return slice;
}

// kTwoKernels and queues: a part's means, and C behind them its M2s.
SN_HOST_DEVICE float* moments_of_part(const Arguments& a, std::int64_t sample, std::int64_t part) {
  return reinterpret_cast<float*>(a.workspace + a.moments_offset) +
         (sample * a.blocks_per_sample + part) * a.channels * 2;
}

SN_HOST_DEVICE ChannelParameters<float> parameters_of(const Arguments& a, std::int64_t channel) {
  return {a.scale[channel], a.bias[channel], a.mean_offset[channel], a.var_offset[channel]};
}

}  // namespace sn_deploy::cuda
