// Reductions over the threads of a warp and of a block, in one fixed order: all lanes end with the same bits.
#pragma once

#include "cuda/kernels/arguments.h"

namespace sn_deploy::cuda {

template <typename Team>
SN_HOST_DEVICE Moments<float> shuffle(Team& team, Moments<float> m, int mask) {
  return {team.shuffle_xor(m.count, mask), team.shuffle_xor(m.mean, mask), team.shuffle_xor(m.m2, mask)};
}

template <typename Team>
SN_HOST_DEVICE LayerMoments<float> shuffle(Team& team, LayerMoments<float> m, int mask) {
  return {shuffle(team, m.means, mask), team.shuffle_xor(m.var_sum, mask)};
}

// A butterfly whose partners merge in the order of their lanes. For all lanes of a warp.
template <typename Team, typename M>
SN_HOST_DEVICE M reduce_warp(Team& team, M moments) {
  for (int mask = 1; mask < 32; mask *= 2) {
    const M other = shuffle(team, moments, mask);
    const bool second = (team.lane() & mask) != 0;
    moments = second ? merge(other, moments) : merge(moments, other);
  }
  return moments;
}

// For all threads of a block; `slots` has room for a LayerMoments of each warp.
template <typename Team>
SN_HOST_DEVICE LayerMoments<float> reduce_block(Team& team, LayerMoments<float> moments, LayerMoments<float>* slots) {
  moments = reduce_warp(team, moments);
  if (team.lane() == 0) slots[team.warp()] = moments;
  team.sync();
  const bool used = team.lane() < team.warps();
  moments = reduce_warp(team, used ? slots[team.lane()] : no_layer_moments<float>());
  team.sync();  // `slots` may be used again
  return moments;
}

}  // namespace sn_deploy::cuda
