// What the blocks of one sample tell each other, and how they wait.
//
// kCluster: through distributed shared memory. kCooperative: through the workspace, which begins with a barrier for
// each group (a counter, 0 at launch, in a cache line to itself) and goes on with every block's messages, twice, so
// that a block may write the next sample's while others still read this one's.
#pragma once

#include "cuda/kernels/reduce.h"

namespace sn_deploy::cuda {

// One block's view of the exchange about one sample.
struct Exchange {
  std::int64_t group, rank, blocks;
  std::int64_t turn;  // counts the group's samples
  bool cluster;
};

// Everything that was stored before is seen by the other blocks after it. For all threads of the block.
template <typename Team>
SN_HOST_DEVICE void meet(Team& team, const Arguments& a, const Exchange& e) {
  if (e.cluster) {
    team.cluster_arrive();
    team.cluster_wait();
  } else {
    auto* counter = reinterpret_cast<unsigned*>(a.workspace + e.group * kBarrierBytes);
    team.meet(counter, static_cast<unsigned>((e.turn + 1) * e.blocks));
  }
}

// Where in the workspace the message of block `rank` lies.
SN_HOST_DEVICE float* message(const Arguments& a, const Exchange& e, std::int64_t rank, std::int64_t bytes) {
  const std::int64_t slot = (e.group * 2 + e.turn % 2) * e.blocks + rank;
  return reinterpret_cast<float*>(a.workspace + a.groups * kBarrierBytes + slot * bytes);
}

// The layer's moments from every block's own, which all of a block's threads give and get. `slot` is in shared memory.
template <typename Team>
SN_HOST_DEVICE LayerMoments<float> exchange_layer(Team& team, const Arguments& a, const Exchange& e,
                                                  LayerMoments<float> own, float* slot) {
  float* mine = e.cluster ? slot : message(a, e, e.rank, kLayerBytes);
  if (team.thread() == 0) {
    mine[0] = own.means.count;
    mine[1] = own.means.mean;
    mine[2] = own.means.m2;
    mine[3] = own.var_sum;
  }
  meet(team, a, e);
  LayerMoments<float> merged = no_layer_moments<float>();
  for (std::int64_t rank = team.lane(); rank < e.blocks; rank += 32) {
    const float* from = e.cluster ? team.peer(slot, static_cast<int>(rank)) : message(a, e, rank, kLayerBytes);
    const LayerMoments<float> other = {{team.fresh(from), team.fresh(from + 1), team.fresh(from + 2)},
                                       team.fresh(from + 3)};
    merged = merge(merged, other);
  }
  return reduce_warp(team, merged);
}

// The moments of every channel, from those of each block's positions: three floats a channel in `own`, which the
// caller's threads have stored and synchronised, into `merged`, by the thread that has the channel (c mod threads).
template <typename Team>
SN_HOST_DEVICE void exchange_channels(Team& team, const Arguments& a, const Exchange& e, float* own, float* merged) {
  const std::int64_t bytes = (a.channels * kMomentsBytes + 15) / 16 * 16;
  if (!e.cluster) {
    float* mine = message(a, e, e.rank, bytes);
    for (std::int64_t i = team.thread(); i < a.channels * 3; i += team.threads()) mine[i] = own[i];
  }
  meet(team, a, e);
  for (std::int64_t c = team.thread(); c < a.channels; c += team.threads()) {
    Moments<float> total = no_moments<float>();
    for (std::int64_t rank = 0; rank < e.blocks; ++rank) {
      const float* from = (e.cluster ? team.peer(own, static_cast<int>(rank)) : message(a, e, rank, bytes)) + c * 3;
      total = merge(total, Moments<float>{team.fresh(from), team.fresh(from + 1), team.fresh(from + 2)});
    }
    merged[c * 3] = total.count;
    merged[c * 3 + 1] = total.mean;
    merged[c * 3 + 2] = total.m2;
  }
}

}  // namespace sn_deploy::cuda
