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

// This thread's positions of one column from `row` on and below `last`: those that fill whole rounds, or, where there
// are no more behind them, all. Returns the first that it left. I is what the slice's offsets fit in.
template <int W, typename I, typename T>
SN_HOST_DEVICE I column_sums(const T* x, I pitch, I row, I last, bool no_more, const ColumnShare& share,
                             const float (&pivot)[W], Sums (&sums)[W]) {
  constexpr int kUnroll = 8;
  const I step = share.rows * pitch;
  const I whole = last - (kUnroll - 1) * share.rows;  // from which on a whole round doesn't fit
  const T* at = x + row * pitch;
  while (row < whole) {
    Sums branch[W] = {};
    SN_NO_UNROLL
    for (int round = 0; round < kBranches && row < whole; ++round, row += kUnroll * share.rows, at += kUnroll * step) {
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
  if (!no_more) return row;
  // The rest: from memory asked for at once as well; from shared memory that would be more code than waiting.
  constexpr int kRest = kIsFar<I> ? kUnroll - 1 : 1;
  Sums rest[W] = {};
  SN_NO_UNROLL
  for (; row < last; row += kRest * share.rows, at += kRest * step) {
    Vector<T, W> loaded[kRest] = {};
    SN_UNROLL
    for (int u = 0; u < kRest; ++u) {
      if (row + u * share.rows < last) loaded[u] = load<W>(at + u * step);
    }
    SN_UNROLL
    for (int u = 0; u < kRest; ++u) {
      SN_UNROLL
      for (int k = 0; k < W; ++k) {
        if (row + u * share.rows < last) add_value(rest[k], to_float(loaded[u].values[k]) - pivot[k]);
      }
    }
  }
  SN_UNROLL
  for (int k = 0; k < W; ++k) add_sums(sums[k], rest[k]);
  return row;
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
      I row = share.row;  // goes on from piece to piece, which few threads could fill a round of
      SN_NO_UNROLL
      for (int piece = 0; piece < fetch.pieces(); ++piece) {
        if (piece > 0) fetch.wait(piece);
        const bool no_more = piece + 1 == fetch.pieces();
        const I last = no_more ? static_cast<I>(slice.positions) : (piece + 1) * at_once;
        row = column_sums<W, I>(x + column * W, pitch, row, last, no_more, share, pivot, sums);
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

// Where one thread reads and writes a column: steps go from one of its positions to the next.
template <typename I, typename T>
struct ColumnPlace {
  const T* x;
  const T* residual;  // any address without one: it isn't read
  T* y;
  I step, y_step;  // of X, and of Y and the residual
  I left;          // positions
};

// The positions of one column by kCount, then what is left by half as many. All of a round are asked for at once,
// without a condition: behind one, the compiler puts each value together before it asks for the next.
template <Epilogue kEpilogue, int kCount, int V, typename I, typename T>
SN_HOST_DEVICE void apply_rounds(ColumnPlace<I, T>& at, const Line<T> (&lines)[V], int valid) {
  SN_NO_UNROLL
  for (; at.left >= kCount; at.left -= kCount) {
    Vector<T, V> values[kCount];
    Vector<T, V> added[kCount];
    SN_UNROLL
    for (int u = 0; u < kCount; ++u) {
      values[u] = load<V>(at.x + u * at.step);
      if constexpr (kEpilogue == Epilogue::kAddRelu) added[u] = load<V>(at.residual + u * at.y_step);
    }
    SN_UNROLL
    for (int u = 0; u < kCount; ++u) {
      Vector<T, V> result = finished<kEpilogue>(lines, values[u], added[u]);
      if (valid < V) {  // not computed from the padding, which may hold a NaN
        SN_UNROLL
        for (int k = 0; k < V; ++k) {
          if (k >= valid) result.values[k] = from_float<T>(0.0F);
        }
      }
      store<V>(at.y + u * at.y_step, result);
    }
    at.x += kCount * at.step;
    if constexpr (kEpilogue == Epilogue::kAddRelu) at.residual += kCount * at.y_step;
    at.y += kCount * at.y_step;
  }
  if constexpr (kCount > 1) apply_rounds<kEpilogue, kCount / 2, V>(at, lines, valid);
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
  for (int column = share.first_column; column < share.columns && share.row < share.rows; column += share.width) {
    const int valid = channels - column * V < V ? channels - column * V : V;
    Line<T> lines[V];
    constants(column * V, valid, lines);
    const T* from = x + (column * V + share.row * pitch);
    const I offset = static_cast<I>(column) * V + share.row * y_pitch;
    ColumnPlace<I, T> at = {from,
                            kEpilogue == Epilogue::kAddRelu ? slice.residual + offset : from,
                            slice.y + offset,
                            share.rows * pitch,
                            share.rows * y_pitch,
                            (static_cast<I>(slice.positions) - share.row + share.rows - 1) / share.rows};
    apply_rounds<kEpilogue, kUnroll, V>(at, lines, valid);
  }
  zero_padding<V>(team, slice, share);
}

}  // namespace sn_deploy::cuda
