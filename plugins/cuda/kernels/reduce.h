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

// For all threads of a block; `slots` has room for kCount floats of each warp, and may only be used again behind
// another synchronisation.
template <int kCount, typename Team>
SN_HOST_DEVICE void sum_block(Team& team, float (&values)[kCount], float* slots) {
  sum_warp(team, values);
  if (team.lane() == 0) {
    SN_UNROLL
    for (int i = 0; i < kCount; ++i) slots[team.warp() * kCount + i] = values[i];
  }
  team.sync();
  SN_UNROLL
  for (int i = 0; i < kCount; ++i) values[i] = 0.0F;
  for (int warp = 0; warp < team.warps(); ++warp) {
    SN_UNROLL
    for (int i = 0; i < kCount; ++i) values[i] += slots[warp * kCount + i];
  }
}

}  // namespace sn_deploy::cuda
