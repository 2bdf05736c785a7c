// (N, HW, stored channels): threads form rows, one for each of several positions; a thread's column is V neighbouring
// channels, whose constants it keeps in registers. Channels of the padding are read with the vector they share with
// real ones, and left out of everything else; Y's padding is set to 0.
#pragma once

#include "cuda/kernels/arguments.h"
#include "cuda/kernels/chunk.h"

namespace sn_deploy::cuda {

struct ColumnShare {
  std::int64_t columns;       // vectors of the slice's channels
  std::int64_t width;         // threads in a row
  std::int64_t rows;          // positions in flight
  std::int64_t first_column;  // of this thread
  std::int64_t row;           // of this thread; none if it isn't below `rows`
};

template <int V, typename Team>
SN_HOST_DEVICE ColumnShare column_share(Team& team, std::int64_t channels) {
  const std::int64_t columns = most((channels + V - 1) / V, 1);
  const std::int64_t width = least(columns, team.threads());
  return {columns, width, team.threads() / width, team.thread() % width, team.thread() / width};
}

// How many of `positions` the rows from `first` to before `last` have, row r taking r, r + rows, …
SN_HOST_DEVICE std::int64_t positions_of(std::int64_t positions, std::int64_t rows, std::int64_t first,
                                         std::int64_t last) {
  last = least(last, rows);
  if (first >= last) return 0;
  const std::int64_t longer = positions % rows;  // rows with one position more
  const std::int64_t extra = most(least(longer, last) - first, 0);
  return (last - first) * (positions / rows) + extra;
}

// Moments of V channels over the same positions.
template <int V>
struct ColumnMoments {
  float count;
  float mean[V];
  float m2[V];
};

template <int kCount, int V, typename T>
SN_HOST_DEVICE void add_vectors(ColumnMoments<V>& total, const Vector<T, V> (&vectors)[kCount],
                                const float (&pivot)[V]) {
  float count = 0.0F;
  SN_UNROLL
  for (int k = 0; k < V; ++k) {
    const Moments<float> merged =
        merge({total.count, total.mean[k], total.m2[k]}, column_moments(vectors, k, pivot[k]));
    total.mean[k] = merged.mean;
    total.m2[k] = merged.m2;
    count = merged.count;
  }
  total.count = count;
}

// This thread's positions of one column, relative to the pivots.
template <int V, typename T>
SN_HOST_DEVICE ColumnMoments<V> column_total(const Slice<T>& slice, ColumnShare share, std::int64_t column,
                                             const float (&pivot)[V]) {
  constexpr int kUnroll = 8;
  const T* x = slice.x + column * V;
  T* kept = slice.kept != nullptr ? slice.kept + column * V : nullptr;
  ColumnMoments<V> total = {};
  std::int64_t p = share.row;
  for (; p + (kUnroll - 1) * share.rows < slice.positions; p += kUnroll * share.rows) {
    Vector<T, V> loaded[kUnroll];
    SN_UNROLL
    for (int u = 0; u < kUnroll; ++u) loaded[u] = load<V>(x + (p + u * share.rows) * slice.pitch);
    if (kept != nullptr) {
      SN_UNROLL
      for (int u = 0; u < kUnroll; ++u) store<V>(kept + (p + u * share.rows) * slice.kept_pitch, loaded[u]);
    }
    add_vectors(total, loaded, pivot);
  }
  for (; p < slice.positions; p += share.rows) {
    const Vector<T, V> loaded[1] = {load<V>(x + p * slice.pitch)};
    if (kept != nullptr) store<V>(kept + p * slice.kept_pitch, loaded[0]);
    add_vectors(total, loaded, pivot);
  }
  return total;
}

// Merges the rows of `fold` into its first one, eight at a time, in their order; element e of row r is at
// (r width V + e) 2, and e = k width + column. For all threads of the block.
template <int V, typename Team>
SN_HOST_DEVICE void fold_rows(Team& team, const ColumnShare& share, std::int64_t positions, float* fold) {
  constexpr std::int64_t kAtATime = 8;
  const std::int64_t elements = share.width * V;
  for (std::int64_t step = 1; step < share.rows; step *= kAtATime) {
    team.sync();
    const std::int64_t groups = (share.rows + kAtATime * step - 1) / (kAtATime * step);
    for (std::int64_t item = team.thread(); item < groups * elements; item += team.threads()) {
      const std::int64_t first = item / elements * (kAtATime * step);
      const std::int64_t last = least(first + kAtATime * step, share.rows);
      float* into = fold + (first * elements + item % elements) * 2;
      Moments<float> total = {static_cast<float>(positions_of(positions, share.rows, first, first + step)), into[0],
                              into[1]};
      for (std::int64_t r = first + step; r < last; r += step) {
        const float* from = fold + (r * elements + item % elements) * 2;
        const auto count = static_cast<float>(positions_of(positions, share.rows, r, r + step));
        total = merge(total, Moments<float>{count, from[0], from[1]});
      }
      into[0] = total.mean;
      into[1] = total.m2;
    }
  }
  team.sync();
}

// As collect_linear. `fold` has room for two floats for each thread and channel of its vector.
template <int V, typename T, typename Team, typename Sink>
SN_HOST_DEVICE void collect_last(Team& team, const Slice<T>& slice, float* fold, Sink sink) {
  const ColumnShare share = column_share<V>(team, slice.channels);
  const bool any = slice.positions > 0 && slice.channels > 0;
  // With more than one row, a thread has one column at most.
  for (std::int64_t column = share.first_column; column < share.columns && share.row < share.rows;
       column += share.width) {
    float pivot[V] = {};
    if (any) {
      const Vector<T, V> first = load<V>(slice.x + column * V);
      SN_UNROLL
      for (int k = 0; k < V; ++k) pivot[k] = to_float(first.values[k]);
    }
    ColumnMoments<V> total = {};
    if (any) total = column_total<V>(slice, share, column, pivot);
    SN_UNROLL
    for (int k = 0; k < V; ++k) {
      const std::int64_t channel = column * V + k;
      if (share.rows > 1) {
        float* at = fold + (share.row * share.width * V + k * share.width + column) * 2;
        at[0] = total.mean[k];
        at[1] = total.m2[k];
      } else if (channel < slice.channels) {
        sink(channel, Moments<float>{total.count, total.mean[k] + pivot[k], total.m2[k]});
      }
    }
  }
  if (share.rows == 1) return;
  fold_rows<V>(team, share, slice.positions, fold);
  for (std::int64_t channel = team.thread(); channel < slice.channels; channel += team.threads()) {
    const float* at = fold + (channel % V * share.width + channel / V) * 2;
    const float pivot = any ? to_float(slice.x[channel]) : 0.0F;
    sink(channel, Moments<float>{static_cast<float>(slice.positions), at[0] + pivot, at[1]});
  }
}

// `kCount` positions of one column, from p on, `share.rows` apart.
template <Epilogue kEpilogue, int kCount, int V, typename T>
SN_HOST_DEVICE void apply_positions(const Slice<T>& slice, const ColumnShare& share, std::int64_t column,
                                    std::int64_t p, const Affine<float> (&affine)[V]) {
  const T* x = slice.kept != nullptr ? slice.kept : slice.x;
  const std::int64_t pitch = slice.kept != nullptr ? slice.kept_pitch : slice.pitch;
  Vector<T, V> values[kCount];
  Vector<T, V> added[kCount];
  SN_UNROLL
  for (int u = 0; u < kCount; ++u) {
    const std::int64_t at = p + u * share.rows;
    values[u] = load<V>(x + at * pitch + column * V);
    if constexpr (kEpilogue == Epilogue::kAddRelu) added[u] = load<V>(slice.residual + at * slice.pitch + column * V);
  }
  SN_UNROLL
  for (int u = 0; u < kCount; ++u) {
    SN_UNROLL
    for (int k = 0; k < V; ++k) {
      float plus = 0.0F;
      if constexpr (kEpilogue == Epilogue::kAddRelu) plus = to_float(added[u].values[k]);
      const float result = finish<kEpilogue>(apply(affine[k], to_float(values[u].values[k])), plus);
      // Not computed from the padding, which may hold a NaN.
      values[u].values[k] = from_float<T>(column * V + k < slice.channels ? result : 0.0F);
    }
    store<V>(slice.y + (p + u * share.rows) * slice.pitch + column * V, values[u]);
  }
}

// One column of the slice, for this thread's positions.
template <Epilogue kEpilogue, int V, typename T>
SN_HOST_DEVICE void apply_column(const Slice<T>& slice, const ColumnShare& share, std::int64_t column,
                                 const Affine<float> (&affine)[V]) {
  constexpr int kUnroll = kEpilogue == Epilogue::kAddRelu ? 2 : 4;  // two loads each with a residual
  std::int64_t p = share.row;
  for (; p + (kUnroll - 1) * share.rows < slice.positions; p += kUnroll * share.rows) {
    apply_positions<kEpilogue, kUnroll, V>(slice, share, column, p, affine);
  }
  for (; p < slice.positions; p += share.rows) apply_positions<kEpilogue, 1, V>(slice, share, column, p, affine);
}

// Y's padding behind the last vector that holds a channel.
template <int V, typename T, typename Team>
SN_HOST_DEVICE void zero_padding(Team& team, const Slice<T>& slice, const ColumnShare& share) {
  const std::int64_t first = share.columns * V;
  const std::int64_t extra = slice.channels + slice.padding - first;
  if (extra <= 0) return;
  for (std::int64_t i = team.thread(); i < slice.positions * extra; i += team.threads()) {
    slice.y[i / extra * slice.pitch + first + i % extra] = from_float<T>(0.0F);
  }
}

// As apply_linear.
template <Epilogue kEpilogue, int V, typename T, typename Team, typename Constants>
SN_HOST_DEVICE void apply_last(Team& team, const Slice<T>& slice, Constants constants) {
  if (slice.channels == 0) return;
  const ColumnShare share = column_share<V>(team, slice.channels);
  for (std::int64_t column = share.first_column; column < share.columns && share.row < share.rows;
       column += share.width) {
    Affine<float> affine[V];
    SN_UNROLL
    for (int k = 0; k < V; ++k) {
      affine[k] = column * V + k < slice.channels ? constants(column * V + k) : Affine<float>{0.0F, 0.0F, 0.0F};
    }
    apply_column<kEpilogue, V>(slice, share, column, affine);
  }
  zero_padding<V>(team, slice, share);
}

}  // namespace sn_deploy::cuda
