// (N, HW, stored channels): threads form rows, one for each of several positions; a thread's column is some
// neighbouring channels. For the statistics these are few, so that little has to be added up across the rows; to apply,
// they fill an access of 16 bytes, and the thread keeps their constants in registers. Channels of the padding are read
// with the vector they share with real ones, and left out of everything else; Y's padding is set to 0.
#pragma once

#include "cuda/kernels/arguments.h"
#include "cuda/kernels/line.h"
#include "cuda/kernels/sums.h"

namespace sn_deploy::cuda {

// Channels of a thread in the statistics.
template <int V>
inline constexpr int kColumn = V > 1 ? 2 : 1;

struct ColumnShare {
  int columns;       // vectors of the slice's channels
  int width;         // threads in a row
  int rows;          // positions in flight
  int first_column;  // of this thread
  int row;           // of this thread; none if it isn't below `rows`
};

template <int V, typename Team>
SN_HOST_DEVICE ColumnShare column_share(Team& team, int channels) {
  const int columns = channels > V ? (channels + V - 1) / V : 1;
  const int width = columns < team.threads() ? columns : team.threads();
  return {columns, width, team.threads() / width, team.thread() % width, team.thread() / width};
}

// This thread's positions of one column. I is what the slice's offsets fit in.
template <int W, typename I, typename T>
SN_HOST_DEVICE void column_sums(const T* x, I pitch, I positions, const ColumnShare& share, const float (&pivot)[W],
                                Sums (&sums)[W]) {
  constexpr int kUnroll = 8;
  const I step = share.rows * pitch;
  const T* at = x + share.row * pitch;
  I left = (positions - share.row + share.rows - 1) / share.rows;
  while (left >= kUnroll) {
    Sums branch[W] = {};
    SN_NO_UNROLL
    for (int round = 0; round < kBranches && left >= kUnroll; ++round, left -= kUnroll, at += kUnroll * step) {
      Vector<T, W> loaded[kUnroll];
      SN_UNROLL
      for (int u = 0; u < kUnroll; ++u) loaded[u] = load<W>(at + u * step);
      Sums part[W] = {};
      SN_UNROLL
      for (int u = 0; u < kUnroll; ++u) {
        SN_UNROLL
        for (int k = 0; k < W; ++k) add_value(part[k], to_float(loaded[u].values[k]) - pivot[k]);
      }
      SN_UNROLL
      for (int k = 0; k < W; ++k) add_sums(branch[k], part[k]);
    }
    SN_UNROLL
    for (int k = 0; k < W; ++k) add_sums(sums[k], branch[k]);
  }
  // The rest: from memory asked for at once as well; from shared memory that would be more code than waiting.
  constexpr int kRest = kIsFar<I> ? kUnroll - 1 : 1;
  Sums rest[W] = {};
  SN_NO_UNROLL
  for (; left > 0; left -= kRest, at += kRest * step) {
    Vector<T, W> loaded[kRest] = {};
    SN_UNROLL
    for (int u = 0; u < kRest; ++u) {
      if (u < left) loaded[u] = load<W>(at + u * step);
    }
    SN_UNROLL
    for (int u = 0; u < kRest; ++u) {
      SN_UNROLL
      for (int k = 0; k < W; ++k) {
        if (u < left) add_value(rest[k], to_float(loaded[u].values[k]) - pivot[k]);
      }
    }
  }
  SN_UNROLL
  for (int k = 0; k < W; ++k) add_sums(sums[k], rest[k]);
}

// As collect_linear. `fold` has room for two floats for each thread and channel of its column.
template <int W, typename I, typename T, typename Team, typename Fetch>
SN_HOST_DEVICE bool collect_last(Team& team, const Slice<T>& slice, const T* x, I pitch, Fetch& fetch, float* fold,
                                 const Planes& into, bool again) {
  const auto channels = static_cast<int>(slice.channels);
  const ColumnShare share = column_share<W>(team, channels);
  const auto count = static_cast<float>(slice.positions);
  // Rows that share a warp are added up by shuffles.
  const bool shuffles = share.width < 32 && (share.width & (share.width - 1)) == 0;
  const int folded = shuffles ? team.warps() : share.rows;
  bool bad = false;
  fetch.wait(0);
  const auto at_once = static_cast<I>(least(fetch.rows_of_piece(), slice.positions));
  // With more than one row, a thread has one column at most; with one, it has the only one that is shuffled.
  for (int column = share.first_column; column < share.columns && share.row < share.rows; column += share.width) {
    float pivot[W] = {};
    Sums sums[W] = {};
    SN_UNROLL
    for (int k = 0; k < W; ++k) {
      const int channel = column * W + k;
      if (again && channel < channels) {
        pivot[k] = into.plane(0)[channel];
      } else if (channel < channels) {
        pivot[k] = pivot_of<I>(x + channel, pitch, at_once);
      }
    }
    if (channels > 0) {
      SN_NO_UNROLL
      for (int piece = 0; piece < fetch.pieces(); ++piece) {
        if (piece > 0) fetch.wait(piece);
        const I first = piece * at_once;
        const I last = first + at_once < slice.positions ? first + at_once : static_cast<I>(slice.positions);
        column_sums<W, I>(x + (column * W + first * pitch), pitch, last - first, share, pivot, sums);
      }
    }
    if (shuffles) {
      for (int mask = share.width; mask < 32; mask *= 2) {
        SN_UNROLL
        for (int k = 0; k < W; ++k) {
          sums[k].sum += team.shuffle_xor(sums[k].sum, mask);
          sums[k].squares += team.shuffle_xor(sums[k].squares, mask);
        }
      }
    }
    const int row = shuffles ? team.warp() : share.row;
    const bool folds = !shuffles || team.lane() < share.width;
    SN_UNROLL
    for (int k = 0; k < W; ++k) {
      const int channel = column * W + k;
      if (folded > 1) {
        if (folds) {
          fold[((row * W + k) * 2) * share.width + column] = sums[k].sum;
          fold[((row * W + k) * 2 + 1) * share.width + column] = sums[k].squares;
          if (!again && row == 0 && channel < channels) into.plane(0)[channel] = pivot[k];
        }
      } else if (folds && channel < channels) {
        bad |= store_moments(sums[k], count, pivot[k], into, channel);
      }
    }
  }
  if (folded == 1) return bad;
  team.sync();
  for (int channel = team.thread(); channel < channels; channel += team.threads()) {
    const float* at = fold + (channel % W * 2) * share.width + channel / W;
    Sums sums = {};
    for (int row = 0; row < folded; ++row, at += 2 * W * share.width) {
      sums.sum += at[0];
      sums.squares += at[share.width];
    }
    bad |= store_moments(sums, count, into.plane(0)[channel], into, channel);
  }
  return bad;
}

// `count` positions of one column, kUnroll at most, one step apart in each tensor. All are asked for at once.
template <Epilogue kEpilogue, int kUnroll, int V, typename I, typename T>
SN_HOST_DEVICE void apply_positions(const T* x, I step, const T* residual, T* y, I y_step, const Line<T> (&lines)[V],
                                    int valid, I count) {
  Vector<T, V> values[kUnroll] = {};
  Vector<T, V> added[kUnroll] = {};
  SN_UNROLL
  for (int u = 0; u < kUnroll; ++u) {
    if (u >= count) break;
    values[u] = load<V>(x + u * step);
    if constexpr (kEpilogue == Epilogue::kAddRelu) added[u] = load<V>(residual + u * y_step);
  }
  SN_UNROLL
  for (int u = 0; u < kUnroll; ++u) {
    if (u >= count) break;
    Vector<T, V> result = finished<kEpilogue>(lines, values[u], added[u]);
    if (valid < V) {  // not computed from the padding, which may hold a NaN
      SN_UNROLL
      for (int k = 0; k < V; ++k) {
        if (k >= valid) result.values[k] = from_float<T>(0.0F);
      }
    }
    store<V>(y + u * y_step, result);
  }
}

// Y's padding behind the last vector that holds a channel.
template <int V, typename T, typename Team>
SN_HOST_DEVICE void zero_padding(Team& team, const Slice<T>& slice, const ColumnShare& share) {
  const std::int64_t first = std::int64_t{share.columns} * V;
  const std::int64_t extra = slice.channels + slice.padding - first;
  if (extra <= 0) return;
  for (std::int64_t p = team.thread(); p < slice.positions; p += team.threads()) {
    for (std::int64_t c = 0; c < extra; ++c) slice.y[p * slice.pitch + first + c] = from_float<T>(0.0F);
  }
}

// As apply_linear; constants(first, count, lines) gives V channels' lines, of which `count` exist.
template <Epilogue kEpilogue, int kUnroll, int V, typename I, typename T, typename Team, typename Constants>
SN_HOST_DEVICE void apply_last(Team& team, const Slice<T>& slice, const T* x, I pitch, Constants constants) {
  if (slice.channels == 0) return;
  const auto channels = static_cast<int>(slice.channels);
  const ColumnShare share = column_share<V>(team, channels);
  const auto y_pitch = static_cast<I>(slice.pitch);
  const I step = share.rows * pitch;
  const I y_step = share.rows * y_pitch;
  for (int column = share.first_column; column < share.columns && share.row < share.rows; column += share.width) {
    const int valid = channels - column * V < V ? channels - column * V : V;
    Line<T> lines[V];
    constants(column * V, valid, lines);
    const T* from = x + (column * V + share.row * pitch);
    const I offset = static_cast<I>(column) * V + share.row * y_pitch;
    const T* residual = kEpilogue == Epilogue::kAddRelu ? slice.residual + offset : from;
    T* y = slice.y + offset;
    I left = (static_cast<I>(slice.positions) - share.row + share.rows - 1) / share.rows;
    SN_NO_UNROLL
    for (; left > 0; left -= kUnroll) {
      apply_positions<kEpilogue, kUnroll, V, I>(from, step, residual, y, y_step, lines, valid, left);
      from += kUnroll * step;
      if constexpr (kEpilogue == Epilogue::kAddRelu) residual += kUnroll * y_step;
      y += kUnroll * y_step;
    }
  }
  zero_padding<V>(team, slice, share);
}

}  // namespace sn_deploy::cuda
