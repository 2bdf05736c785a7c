// The kernel's body, for any team of threads; see arguments.h.
#pragma once

#include "cuda/convolution/product.h"

namespace sn_deploy::cuda {

// A block's share of one sample.
template <typename T>
struct Share {
  const T* x;         // of the sample
  const T* filter;    // of the block's first channel
  const T* residual;  // at the share's first position and channel, or null
  T* y;               // the same
  int first_position, positions;
  std::int64_t first_channel;
  int part, side;
};

template <typename T, typename Team>
SN_HOST_DEVICE Share<T> share_of(const Team& team, const ConvolutionArguments& a, std::int64_t depth) {
  const Arguments& norm = a.norm;
  const int blocks_log2 = norm.blocks_log2 + a.sides_log2;
  const auto rank = static_cast<int>(team.block() & ((std::int64_t{1} << blocks_log2) - 1));
  const std::int64_t sample = norm.batch - 1 - (team.block() >> blocks_log2);  // as `fused`
  Share<T> share = {};
  share.part = rank >> a.sides_log2;
  share.side = rank & (a.sides - 1);
  const Range positions = piece(share.part, norm.spatial_per_block, norm.spatial);
  share.first_position = static_cast<int>(positions.first);
  share.positions = static_cast<int>(positions.count);
  share.first_channel = share.side * norm.channels_per_block;
  share.x = static_cast<const T*>(a.x) + sample * a.x_positions * depth;
  share.filter = static_cast<const T*>(a.filter) + share.first_channel * depth;
  const std::int64_t offset = (sample * norm.spatial + positions.first) * norm.channels + share.first_channel;
  share.residual = norm.residual != nullptr ? static_cast<const T*>(norm.residual) + offset : nullptr;
  share.y = static_cast<T*>(norm.y) + offset;
  return share;
}

// Rows of kDepth elements into shared memory: row i from from(i) to to(i). To be awaited. A thread has the same columns
// of each of its rows, so that there is little to compute for 16 bytes.
template <int kDepth, typename Team, typename From, typename To>
SN_HOST_DEVICE void copy_rows(Team& team, int rows, From from, To to) {
  constexpr int kAcross = kDepth / kVector;
  constexpr int kLanes = kAcross < 32 ? kAcross : 32;  // side by side in a row
  const auto thread = static_cast<unsigned>(team.thread());
  const auto first = static_cast<int>(thread / kLanes);
  const auto column = static_cast<int>(thread % kLanes) * kVector;
  const int step = team.threads() / kLanes;
  for (int row = first; row < rows; row += step) {
    auto* target = to(row) + column;
    const auto* source = from(row) + column;
    SN_UNROLL
    for (int i = 0; i < kAcross; i += kLanes) copy_async(team, target + i * kVector, source + i * kVector);
  }
}

template <int kDepth, typename T, typename Team>
SN_HOST_DEVICE void copy_x(Team& team, const ConvolutionArguments& a, const Share<T>& share, T* to) {
  const auto source = [&](int row) {
    const int position = share.first_position + row;
    if (a.stride == 1) return share.x + std::int64_t{position} * kDepth;
    const auto width = static_cast<int>(a.y_width);
    const int y = position / width;
    const int x = position - y * width;
    return share.x + (y * a.x_width + x) * a.stride * kDepth;
  };
  copy_rows<kDepth>(team, share.positions, source, [to](int row) { return to + row * kRowPitch<kDepth>; });
}

// Channels from `first` of the block on; a chunk's rows in the order of the products' columns.
template <int kDepth, typename T, typename Team>
SN_HOST_DEVICE void copy_filter(Team& team, const Share<T>& share, int first, int channels, T* to) {
  copy_rows<kDepth>(
      team, channels, [&](int row) { return share.filter + (first + row) * std::int64_t{kDepth}; },
      [to](int row) { return to + filter_row(row) * kRowPitch<kDepth>; });
}

// How many of a group's rows are there.
SN_HOST_DEVICE int rows_of(int positions, int group, int group_rows) {
  const int rows = positions - group * group_rows;
  return rows < 0 ? 0 : (rows < group_rows ? rows : group_rows);
}

// The moments of one channel of a chunk from those of `parts` warps, of which part i has counts(i) positions.
template <typename Count>
SN_HOST_DEVICE void merge_warps(const float* moments, int channel, int parts, Count counts, const Planes& own,
                                int own_channel) {
  const float* first = moments + channel;
  const float pivot = *first;  // the first warp has positions, if any has
  const PartSums sums = sum_parts([](const float* from) { return *from; }, parts, 0, 1, pivot, kChunk, counts,
                                  [first](int part) { return first + part * 2 * kChunk; });
  const Moments<float> merged = sums.count > 0.0F ? moments_of(sums, pivot) : no_moments<float>();
  own.plane(0)[own_channel] = merged.mean;
  own.plane(1)[own_channel] = merged.m2;
}

// From the moments of the block's positions, in `own`, to the affine maps of its channels. For all threads of the
// block; needs a synchronisation before and after.
template <typename T, typename Team>
SN_HOST_DEVICE Planes exchange_maps(Team& team, const ConvolutionArguments& a, const Share<T>& share,
                                    const Planes& own) {
  const Arguments& norm = a.norm;
  const auto channels = static_cast<int>(norm.channels_per_block);
  const auto parts = static_cast<int>(norm.blocks_per_sample);
  // Blocks of a cluster lie side by side in a part: so its first ones have all sides.
  const Exchange exchange = {0, share.side, a.sides, 0, true};
  Planes merged = own;
  if (parts > 1) {
    merged.base = own.plane(3);
    meet(team, norm, exchange);
    merge_channels(
        team, norm, parts, channels, own.stride,
        [&](int part) { return team.peer(own.base, (part << a.sides_log2) + share.side); },
        [&](const float* from) { return team.of_peer(from); }, merged,
        reinterpret_cast<float*>(team.shared() + norm.fold_offset));
    team.sync();
  }
  unsigned char* scratch = team.shared() + norm.scratch_offset;
  LayerPart layer = layer_part(team, norm, channels, reinterpret_cast<float*>(scratch),
                               [&](int c) { return moments_at(merged, c, norm.spatial); });
  if (a.sides > 1) {
    layer = exchange_layer(team, norm, exchange, layer, reinterpret_cast<float*>(scratch + kExchangeOffset));
  }
  make_lines<T>(team, norm, statistics_of(norm, layer), share.first_channel, channels, merged);
  return merged;
}

// Each chunk of W twice through shared memory, the next while this one is used.
template <Epilogue kEpilogue, int kDepth, int kTiles, typename T, typename Team>
SN_HOST_DEVICE void stream(Team& team, const ConvolutionArguments& a, const Share<T>& share) {
  constexpr int kRows = kGroupRows<kTiles>;
  constexpr int kPitch = kRowPitch<kDepth>;
  const Arguments& norm = a.norm;
  const Planes own = {reinterpret_cast<float*>(team.shared()), norm.plane_floats};
  auto* moments = reinterpret_cast<float*>(team.shared() + a.moments_offset);
  auto* x = reinterpret_cast<T*>(team.shared() + a.x_offset);
  auto* filters = reinterpret_cast<T*>(team.shared() + a.filter_offset);
  const int chunks = static_cast<int>(norm.channels_per_block) / kChunk;
  const int groups = (share.positions + kRows - 1) / kRows;
  const int warps = team.warps();
  const auto filter_of = [&](int turn) { return filters + (turn & 1) * kChunk * kPitch; };
  const auto moments_of_turn = [&](int turn) { return moments + (turn & 1) * warps * 2 * kChunk; };
  // Groups go round the warps; only the last one of all may have fewer rows.
  const int rounds = groups / warps;
  const int rest = groups - rounds * warps;
  const int missing = groups * kRows - share.positions;
  const auto rows_of_warp = [&](int warp) {
    const int whole = (rounds + (warp < rest ? 1 : 0)) * kRows;
    return warp == (rest > 0 ? rest : warps) - 1 ? whole - missing : whole;
  };
  const auto merge_turn = [&](int chunk) {
    for (int c = team.thread(); c < kChunk; c += team.threads()) {
      merge_warps(
          moments_of_turn(chunk), c, warps, [&](int warp) { return static_cast<float>(rows_of_warp(warp)); }, own,
          chunk * kChunk + c);
    }
  };
  const int own_rows = rows_of_warp(team.warp());
  int turn = 0;
  // The chunk of this turn is there, for all threads; the next one is on its way to where that before this one was.
  const auto take_turn = [&] {
    await_copies(team);
    const int next = turn + 1;
    if (next < 2 * chunks) {
      copy_filter<kDepth>(team, share, (next < chunks ? next : next - chunks) * kChunk, kChunk, filter_of(next));
    }
    return filter_of(turn++);
  };

  SN_NO_UNROLL
  for (int chunk = 0; chunk < chunks; ++chunk) {
    const T* filter = take_turn();
    if (chunk > 0) merge_turn(chunk - 1);
    ColumnSums sums = {};
    SN_NO_UNROLL
    for (int group = team.warp(); group < groups; group += warps) {
      Products<kTiles> products;
      multiply<kDepth, kTiles>(team, x + group * kRows * kPitch, filter, products);
      add_group<kTiles>(team, products, rows_of(share.positions, group, kRows), group < warps, sums);
    }
    if (own_rows > 0) store_columns(team, sums, own_rows, moments_of_turn(chunk) + team.warp() * 2 * kChunk);
  }
  team.sync();
  merge_turn(chunks - 1);
  team.sync();
  const LoadLines<T> lines = {exchange_maps(team, a, share, own)};
  if (norm.blocks_per_sample * a.sides > 1) team.cluster_leave();

  // The maps are there for all threads behind the first turn.
  const auto pitch = static_cast<int>(norm.channels);
  const int first = first_element_of(team, pitch);
  const T* residual = share.residual + first;
  T* y = hold(team, share.y + first);
  SN_NO_UNROLL
  for (int chunk = 0; chunk < chunks; ++chunk) {
    const T* filter = take_turn();
    SN_NO_UNROLL
    for (int group = team.warp(); group < groups; group += warps) {
      const int rows = rows_of(share.positions, group, kRows);
      const int offset = group * kRows * pitch + chunk * kChunk;
      Residuals<T, kTiles> residuals;  // asked for before the product, which takes as long as they do
      if constexpr (kEpilogue == Epilogue::kAddRelu) {
        load_residuals<kTiles>(team, residual + offset, pitch, rows, residuals);
      }
      Products<kTiles> products;
      multiply<kDepth, kTiles>(team, x + group * kRows * kPitch, filter, products);
      apply_group<kEpilogue, kTiles>(team, lines, chunk * kChunk, products, residuals, y + offset, pitch, rows);
    }
  }
  if (norm.blocks_per_sample * a.sides > 1) team.cluster_wait();
}

// All of the block's W in shared memory; a warp computes one product, and keeps it.
template <Epilogue kEpilogue, int kDepth, int kTiles, typename T, typename Team>
SN_HOST_DEVICE void keep(Team& team, const ConvolutionArguments& a, const Share<T>& share) {
  constexpr int kRows = kGroupRows<kTiles>;
  constexpr int kPitch = kRowPitch<kDepth>;
  const Arguments& norm = a.norm;
  const Planes own = {reinterpret_cast<float*>(team.shared()), norm.plane_floats};
  auto* moments = reinterpret_cast<float*>(team.shared() + a.moments_offset);
  auto* x = reinterpret_cast<T*>(team.shared() + a.x_offset);
  auto* filter = reinterpret_cast<T*>(team.shared() + a.filter_offset);
  const auto channels = static_cast<int>(norm.channels_per_block);
  const int groups = (share.positions + kRows - 1) / kRows;
  const int chunk = groups > 0 ? team.warp() / groups : 0;
  const int group = groups > 0 ? team.warp() - chunk * groups : 0;
  const int rows = chunk * kChunk < channels ? rows_of(share.positions, group, kRows) : 0;
  const auto pitch = static_cast<int>(norm.channels);
  const int offset = group * kRows * pitch + chunk * kChunk + first_element_of(team, pitch);

  copy_filter<kDepth>(team, share, 0, channels, filter);
  await_copies(team);
  Products<kTiles> products;
  if (rows > 0) {
    multiply<kDepth, kTiles>(team, x + group * kRows * kPitch, filter + chunk * kChunk * kPitch, products);
    ColumnSums sums = {};
    add_group<kTiles>(team, products, rows, true, sums);
    store_columns(team, sums, rows, moments + team.warp() * 2 * kChunk);
  }
  Residuals<T, kTiles> residuals;  // on their way while the blocks meet
  if constexpr (kEpilogue == Epilogue::kAddRelu) {
    load_residuals<kTiles>(team, share.residual + offset, pitch, rows, residuals);
  }
  team.sync();
  for (int c = team.thread(); c < channels; c += team.threads()) {
    merge_warps(
        moments + c / kChunk * groups * 2 * kChunk, c % kChunk, groups,
        [&](int part) { return static_cast<float>(rows_of(share.positions, part, kRows)); }, own, c);
  }
  team.sync();
  const LoadLines<T> lines = {exchange_maps(team, a, share, own)};
  if (norm.blocks_per_sample * a.sides > 1) team.cluster_leave();
  team.sync();
  if (rows > 0) {
    apply_group<kEpilogue, kTiles>(team, lines, chunk * kChunk, products, residuals, share.y + offset, pitch, rows);
  }
  if (norm.blocks_per_sample * a.sides > 1) team.cluster_wait();
}

template <typename T, Epilogue kEpilogue, int kDepth, int kTiles, Product kProduct, typename Team>
SN_HOST_DEVICE void convolve(Team& team, const ConvolutionArguments& a) {
  const Share<T> share = share_of<T>(team, a, kDepth);
  team.wait_for_earlier();
  copy_x<kDepth>(team, a, share, reinterpret_cast<T*>(team.shared() + a.x_offset));
  if constexpr (kProduct == Product::kKept) {
    keep<kEpilogue, kDepth, kTiles>(team, a, share);
  } else {
    copy_filter<kDepth>(team, share, 0, kChunk, reinterpret_cast<T*>(team.shared() + a.filter_offset));
    stream<kEpilogue, kDepth, kTiles>(team, a, share);
  }
}

}  // namespace sn_deploy::cuda
