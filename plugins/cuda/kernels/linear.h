// (N, C, HW): some lanes, a warp, or several warps for each channel's row. V divides the rows and the slices of them.
#pragma once

#include "cuda/kernels/arguments.h"
#include "cuda/kernels/line.h"
#include "cuda/kernels/reduce.h"
#include "cuda/kernels/sums.h"

namespace sn_deploy::cuda {

// This thread's part of one row: vectors first, first + step, … I is what the slice's offsets fit in.
template <int V, typename I, typename T>
SN_HOST_DEVICE Sums row_sums(const T* row, I elements, I first, I step, float pivot) {
  constexpr int kUnroll = V == 1 ? 8 : 4;
  const I vectors = elements / V;
  const I last = vectors - (kUnroll - 1) * step;  // from which on a whole round doesn't fit
  Sums sums = {};
  I j = first;
  while (j < last) {
    Sums branch = {};
    SN_NO_UNROLL
    for (int round = 0; round < kBranches && j < last; ++round, j += kUnroll * step) {
      Vector<T, V> loaded[kUnroll];
      SN_UNROLL
      for (int u = 0; u < kUnroll; ++u) loaded[u] = load<V>(row + (j + u * step) * V);
      Sums part = {};
      SN_UNROLL
      for (int u = 0; u < kUnroll; ++u) {
        SN_UNROLL
        for (int k = 0; k < V; ++k) add_value(part, to_float(loaded[u].values[k]) - pivot);
      }
      add_sums(branch, part);
    }
    add_sums(sums, branch);
  }
  // The rest: from memory asked for at once as well; from shared memory that would be more code than waiting.
  constexpr int kRest = kIsFar<I> ? kUnroll - 1 : 1;
  Sums rest = {};
  SN_NO_UNROLL
  for (; j < vectors; j += kRest * step) {
    Vector<T, V> loaded[kRest] = {};
    SN_UNROLL
    for (int u = 0; u < kRest; ++u) {
      if (j + u * step < vectors) loaded[u] = load<V>(row + (j + u * step) * V);
    }
    SN_UNROLL
    for (int u = 0; u < kRest; ++u) {
      SN_UNROLL
      for (int k = 0; k < V; ++k) {
        if (j + u * step < vectors) add_value(rest, to_float(loaded[u].values[k]) - pivot);
      }
    }
  }
  add_sums(sums, rest);
  return sums;
}

// How many threads work on a row: a power of two, four at least, so that all rows are worked on at once if they can be.
template <typename Team>
SN_HOST_DEVICE int threads_of_row(Team& team, int rows) {
  int threads = 4;
  while (2 * threads * (rows > 0 ? rows : 1) <= team.threads()) threads *= 2;
  return threads;
}

// The moments of the rows, at `into`; with `again`, about the means that are there already. Whether this thread found
// that this is needed. `slots` has room for two floats of each warp. The caller has to synchronise before it uses what
// was stored, or `slots`.
template <int V, typename I, typename T, typename Team, typename Fetch>
SN_HOST_DEVICE bool collect_linear(Team& team, const Slice<T>& slice, const T* x, I pitch, Fetch& fetch, float* slots,
                                   const Planes& into, bool again) {
  const auto channels = static_cast<int>(slice.channels);
  const int threads = threads_of_row(team, channels);
  const int rows = team.threads() / threads;  // at once; with several warps for each, that is all
  const int own_row = team.thread() / threads;
  const int part = team.thread() % threads;
  const auto count = static_cast<float>(slice.positions);
  bool bad = false;
  int waited = 0;  // pieces
  for (int first = 0; first < channels; first += rows) {
    while (waited < fetch.pieces() && waited * fetch.rows_of_piece() < first + rows) fetch.wait(waited++);
    const int c = first + own_row;
    const bool active = own_row < rows && c < channels;
    Sums sums = {};
    float pivot = 0.0F;
    if (active) {
      const T* row = x + c * pitch;
      pivot = again ? into.plane(0)[c] : pivot_of<I>(row, 1, static_cast<I>(slice.positions));
      sums = row_sums<V, I>(row, static_cast<I>(slice.positions), part, threads, pivot);
    }
    for (int mask = 1; mask < (threads < 32 ? threads : 32); mask *= 2) {
      sums.sum += team.shuffle_xor(sums.sum, mask);
      sums.squares += team.shuffle_xor(sums.squares, mask);
    }
    if (threads > 32) {
      if (team.lane() == 0) {
        slots[team.warp() * 2] = sums.sum;
        slots[team.warp() * 2 + 1] = sums.squares;
      }
      team.sync();
      sums = {};
      for (int warp = 0; active && part == 0 && warp < threads / 32; ++warp) {
        sums.sum += slots[(team.warp() + warp) * 2];
        sums.squares += slots[(team.warp() + warp) * 2 + 1];
      }
    }
    if (active && part == 0) bad |= store_moments(sums, count, pivot, into, c);
  }
  return bad;
}

// Which row this thread applies, and which vectors of it: a warp for each row, or several.
struct RowShare {
  int first_row, row_step;
  int first, step;  // of the row's vectors
};

template <typename Team>
SN_HOST_DEVICE RowShare row_share(Team& team, int rows) {
  const int warps = team.warps();
  const int parts = rows >= warps || rows == 0 ? 1 : warps / rows;
  // With several warps on a row, those that are left over (where parts doesn't divide the warps) have no row.
  const int step = warps / parts;
  return {team.warp() / parts, step, (team.warp() % parts) * 32 + team.lane(), parts * 32};
}

// This thread's vectors of one row from j on: y = finish(apply(x)), by kCount, then what is left by half as many. All
// of a round are asked for at once, without a condition: behind one, the compiler puts each value together before it
// asks for the next.
template <Epilogue kEpilogue, int kCount, int V, typename I, typename T>
SN_HOST_DEVICE void apply_rounds(const T* x, const T* residual, T* y, I j, I vectors, I step,
                                 const Line<T> (&lines)[V]) {
  const I whole = vectors - (kCount - 1) * step;  // from which on a whole round doesn't fit
  SN_NO_UNROLL
  for (; j < whole; j += kCount * step) {
    Vector<T, V> values[kCount];
    Vector<T, V> added[kCount];
    SN_UNROLL
    for (int u = 0; u < kCount; ++u) {
      values[u] = load<V>(x + (j + u * step) * V);
      if constexpr (kEpilogue == Epilogue::kAddRelu) added[u] = load<V>(residual + (j + u * step) * V);
    }
    SN_UNROLL
    for (int u = 0; u < kCount; ++u) store<V>(y + (j + u * step) * V, finished<kEpilogue>(lines, values[u], added[u]));
  }
  if constexpr (kCount > 1) apply_rounds<kEpilogue, kCount / 2, V, I>(x, residual, y, j, vectors, step, lines);
}

// This thread's part of one row.
template <Epilogue kEpilogue, int kUnroll, int V, typename I, typename T>
SN_HOST_DEVICE void apply_row(const T* x, const T* residual, T* y, I elements, RowShare share, const Line<T>& line) {
  Line<T> lines[V];
  SN_UNROLL
  for (int k = 0; k < V; ++k) lines[k] = line;
  apply_rounds<kEpilogue, kUnroll, V, I>(x, residual, y, share.first, elements / V, share.step, lines);
}

// The slice, read at x; constants(channel in the slice, 1, lines) gives a channel's affine map.
template <Epilogue kEpilogue, int kUnroll, int V, typename I, typename T, typename Team, typename Constants>
SN_HOST_DEVICE void apply_linear(Team& team, const Slice<T>& slice, const T* x, I pitch, Constants constants) {
  const auto channels = static_cast<int>(slice.channels);
  const RowShare share = row_share(team, channels);
  const auto y_pitch = static_cast<I>(slice.pitch);
  SN_NO_UNROLL
  for (int c = share.first_row; c < channels; c += share.row_step) {
    const T* row = x + c * pitch;
    // Without a residual, any address: it isn't read.
    const T* residual = kEpilogue == Epilogue::kAddRelu ? slice.residual + c * y_pitch : row;
    Line<T> line[1];
    constants(c, 1, line);
    apply_row<kEpilogue, kUnroll, V, I>(row, residual, slice.y + c * y_pitch, static_cast<I>(slice.positions), share,
                                        line[0]);
  }
}

}  // namespace sn_deploy::cuda
