// (N, C, HW): a warp, or several, for each channel's row. V divides the rows and the slices of them.
#pragma once

#include "cuda/kernels/arguments.h"
#include "cuda/kernels/chunk.h"
#include "cuda/kernels/reduce.h"

namespace sn_deploy::cuda {

// Which row this thread works on, and which vectors of it.
struct RowShare {
  std::int64_t first_row, row_step;
  std::int64_t first, step;  // of the row's vectors
  int parts;                 // warps on one row
};

template <typename Team>
SN_HOST_DEVICE RowShare row_share(Team& team, std::int64_t rows) {
  const int parts = rows >= team.warps() ? 1 : static_cast<int>(team.warps() / most(rows, 1));
  // With several warps on a row, those that are left over (where parts doesn't divide the warps) have no row.
  return {team.warp() / parts, most(team.warps() / parts, 1), (team.warp() % parts) * 32 + team.lane(), parts * 32,
          parts};
}

// This thread's part of one row, relative to the pivot.
template <int V, typename T>
SN_HOST_DEVICE Moments<float> row_moments(const T* row, T* kept, std::int64_t elements, RowShare share, float pivot) {
  constexpr int kUnroll = V == 1 ? 8 : 4;
  const std::int64_t vectors = elements / V;
  Moments<float> total = no_moments<float>();
  std::int64_t j = share.first;
  for (; j + (kUnroll - 1) * share.step < vectors; j += kUnroll * share.step) {
    Vector<T, V> loaded[kUnroll];
    SN_UNROLL
    for (int u = 0; u < kUnroll; ++u) loaded[u] = load<V>(row + (j + u * share.step) * V);
    if (kept != nullptr) {
      SN_UNROLL
      for (int u = 0; u < kUnroll; ++u) store<V>(kept + (j + u * share.step) * V, loaded[u]);
    }
    total = merge(total, chunk_moments(loaded, pivot));
  }
  for (; j < vectors; j += share.step) {
    const Vector<T, V> loaded[1] = {load<V>(row + j * V)};
    if (kept != nullptr) store<V>(kept + j * V, loaded[0]);
    total = merge(total, chunk_moments(loaded, pivot));
  }
  return total;
}

// The moments of the slice's channels: sink(channel in the slice, moments), by one thread each. `slots` has room for a
// warp's Moments each. The caller has to synchronise before it uses what the sink stored, or `slots`.
template <int V, typename T, typename Team, typename Sink>
SN_HOST_DEVICE void collect_linear(Team& team, const Slice<T>& slice, Moments<float>* slots, Sink sink) {
  const RowShare share = row_share(team, slice.channels);
  const bool any = slice.positions > 0;
  for (std::int64_t c = share.first_row; c < slice.channels; c += share.row_step) {
    const T* row = slice.x + c * slice.pitch;
    T* kept = slice.kept != nullptr ? slice.kept + c * slice.kept_pitch : nullptr;
    const float pivot = any ? to_float(row[0]) : 0.0F;
    Moments<float> moments = row_moments<V>(row, kept, slice.positions, share, pivot);
    moments = reduce_warp(team, moments);
    if (team.lane() != 0) continue;
    if (share.parts == 1) {
      moments.mean += pivot;
      sink(c, moments);
    } else {
      slots[team.warp()] = moments;
    }
  }
  if (share.parts == 1) return;
  team.sync();
  const std::int64_t c = team.thread();
  if (c >= slice.channels) return;
  Moments<float> moments = no_moments<float>();
  for (int part = 0; part < share.parts; ++part) moments = merge(moments, slots[c * share.parts + part]);
  if (any) moments.mean += to_float(slice.x[c * slice.pitch]);
  sink(c, moments);
}

// `kCount` vectors, `step` vectors apart: y = finish(apply(x)).
template <Epilogue kEpilogue, int kCount, int V, typename T>
SN_HOST_DEVICE void apply_vectors(const T* x, const T* residual, T* y, std::int64_t step, Affine<float> affine) {
  Vector<T, V> values[kCount];
  Vector<T, V> added[kCount];
  SN_UNROLL
  for (int u = 0; u < kCount; ++u) {
    values[u] = load<V>(x + u * step * V);
    if constexpr (kEpilogue == Epilogue::kAddRelu) added[u] = load<V>(residual + u * step * V);
  }
  SN_UNROLL
  for (int u = 0; u < kCount; ++u) {
    SN_UNROLL
    for (int k = 0; k < V; ++k) {
      float plus = 0.0F;
      if constexpr (kEpilogue == Epilogue::kAddRelu) plus = to_float(added[u].values[k]);
      values[u].values[k] = from_float<T>(finish<kEpilogue>(apply(affine, to_float(values[u].values[k])), plus));
    }
    store<V>(y + u * step * V, values[u]);
  }
}

// This thread's part of one row.
template <Epilogue kEpilogue, int V, typename T>
SN_HOST_DEVICE void apply_row(const T* x, const T* residual, T* y, std::int64_t elements, RowShare share,
                              Affine<float> affine) {
  constexpr int kUnroll = kEpilogue == Epilogue::kAddRelu ? 2 : 4;  // two loads each with a residual
  const std::int64_t vectors = elements / V;
  const std::int64_t step = share.step;
  std::int64_t j = share.first;
  for (; j + (kUnroll - 1) * step < vectors; j += kUnroll * step) {
    apply_vectors<kEpilogue, kUnroll, V>(x + j * V, residual + j * V, y + j * V, step, affine);
  }
  for (; j < vectors; j += step) {
    apply_vectors<kEpilogue, 1, V>(x + j * V, residual + j * V, y + j * V, step, affine);
  }
}

// The slice; constants(channel in the slice) gives a channel's affine map.
template <Epilogue kEpilogue, int V, typename T, typename Team, typename Constants>
SN_HOST_DEVICE void apply_linear(Team& team, const Slice<T>& slice, Constants constants) {
  const RowShare share = row_share(team, slice.channels);
  for (std::int64_t c = share.first_row; c < slice.channels; c += share.row_step) {
    const T* x = slice.kept != nullptr ? slice.kept + c * slice.kept_pitch : slice.x + c * slice.pitch;
    // Without a residual, any address that may be moved along: it isn't read.
    const T* residual = kEpilogue == Epilogue::kAddRelu ? slice.residual + c * slice.pitch : x;
    apply_row<kEpilogue, V>(x, residual, slice.y + c * slice.pitch, slice.positions, share, constants(c));
  }
}

}  // namespace sn_deploy::cuda
