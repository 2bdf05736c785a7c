// Sums over the threads of a warp and of a block, in one fixed order: all lanes end with the same bits.
#pragma once

#include "cuda/kernels/arguments.h"

namespace sn_deploy::cuda {

// For all lanes of a warp.
template <int kCount, typename Team>
SN_HOST_DEVICE void sum_warp(Team& team, float (&values)[kCount]) {
  for (int mask = 1; mask < 32; mask *= 2) {
    SN_UNROLL
    for (int i = 0; i < kCount; ++i) values[i] += team.shuffle_xor(values[i], mask);
  }
}

// For all threads of a block, of which the first `warps` warps alone have something to add. `slots` has room for kCount
// floats of each warp, and may only be used again behind another synchronisation.
template <int kCount, typename Team>
SN_HOST_DEVICE void sum_block(Team& team, float (&values)[kCount], float* slots, int warps) {
  sum_warp(team, values);
  if (team.lane() == 0) {
    SN_UNROLL
    for (int i = 0; i < kCount; ++i) slots[team.warp() * kCount + i] = values[i];
  }
  team.sync();
  // Each warp by itself, in steps of which there are few: lanes that are as many as a power of two take a warp's sums
  // each, and so do the lanes behind them.
  int lanes = 1;
  while (lanes < warps) lanes *= 2;
  const int from = team.lane() & (lanes - 1);
  SN_UNROLL
  for (int i = 0; i < kCount; ++i) values[i] = from < warps ? slots[from * kCount + i] : 0.0F;
  for (int mask = 1; mask < lanes; mask *= 2) {
    SN_UNROLL
    for (int i = 0; i < kCount; ++i) values[i] += team.shuffle_xor(values[i], mask);
  }
}

}  // namespace sn_deploy::cuda
