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

// Of the means of some channels: their mean, the sum of their squared distances from it, and the sum of the variances.
struct LayerPart {
  float mean, m2, var_sum;
};

// The statistics of the layer from those of every block's channels, which all of a block's threads give and get.
// `slot` is in shared memory, for 8 floats. Everything that another block stored is asked for at once: it is far away.
template <typename Team>
SN_HOST_DEVICE LayerPart exchange_layer(Team& team, const Arguments& a, const Exchange& e, LayerPart own, float* slot) {
  float* mine = e.cluster ? slot : message(a, e, e.rank, kLayerBytes);
  if (team.thread() == 0) {
    mine[0] = own.mean;
    mine[1] = own.m2;
    mine[2] = own.var_sum;
  }
  meet(team, a, e);
  if (team.warp() == 0) {
    constexpr int kRounds = kMaxBlocksPerSample / 32;
    float mean[kRounds] = {};
    float m2[kRounds] = {};
    float var_sum[kRounds] = {};
    float count[kRounds] = {};
    // Block 0 has channels in any case, and its mean is among theirs.
    const float pivot = team.fresh(e.cluster ? team.peer(slot, 0) : message(a, e, 0, kLayerBytes));
    SN_UNROLL
    for (int round = 0; round < kRounds; ++round) {
      const int rank = team.lane() + 32 * round;
      if (rank >= e.blocks) break;
      const float* from = e.cluster ? team.peer(slot, rank) : message(a, e, rank, kLayerBytes);
      mean[round] = team.fresh(from);
      m2[round] = team.fresh(from + 1);
      var_sum[round] = team.fresh(from + 2);
      count[round] = static_cast<float>(piece(rank, a.channels_per_block, a.channels).count);
    }
    float shift[1] = {};
    SN_UNROLL
    for (int round = 0; round < kRounds; ++round) {
      mean[round] = count[round] > 0.0F ? mean[round] - pivot : 0.0F;
      shift[0] += count[round] * mean[round];
    }
    sum_warp(team, shift);
    shift[0] /= static_cast<float>(a.channels);
    float rest[2] = {};
    SN_UNROLL
    for (int round = 0; round < kRounds; ++round) {
      const float apart = mean[round] - shift[0];
      rest[0] += count[round] > 0.0F ? m2[round] + count[round] * apart * apart : 0.0F;
      rest[1] += count[round] > 0.0F ? var_sum[round] : 0.0F;
    }
    sum_warp(team, rest);
    if (team.lane() == 0) {
      slot[4] = pivot + shift[0];
      slot[5] = rest[0];
      slot[6] = rest[1];
    }
  }
  team.sync();
  return {slot[4], slot[5], slot[6]};
}

// The moments of a channel from those of several parts of its positions, of which part i has count(i), and mean and M2 at
// where(i) and `plane` floats behind: Chan's formula for all at once, about the first part's mean. `lanes` neighbours of a
// warp, a power of two, do it together; all of them get it.
template <typename Team, typename Count, typename Where>
SN_HOST_DEVICE Moments<float> merge_parts(Team& team, int parts, int lane, int lanes, bool active, std::int64_t plane,
                                          Count count, Where where) {
  constexpr int kUnroll = 4;
  const float pivot = active ? team.fresh(where(0)) : 0.0F;
  float sums[4] = {};  // of counts, of distances, of their squares, and of M2
  for (int first = lane; active && first < parts; first += kUnroll * lanes) {
    float mean[kUnroll] = {};
    float m2[kUnroll] = {};
    SN_UNROLL
    for (int u = 0; u < kUnroll; ++u) {
      const int part = first + u * lanes;
      if (part < parts) {
        const float* from = where(part);
        mean[u] = team.fresh(from);
        m2[u] = team.fresh(from + plane);
      }
    }
    SN_UNROLL
    for (int u = 0; u < kUnroll; ++u) {
      const int part = first + u * lanes;
      const float own = part < parts ? count(part) : 0.0F;
      if (own > 0.0F) {
        const float apart = mean[u] - pivot;
        sums[0] += own;
        sums[1] += own * apart;
        sums[2] += own * apart * apart;
        sums[3] += m2[u];
      }
    }
  }
  for (int mask = 1; mask < lanes; mask *= 2) {
    SN_UNROLL
    for (int i = 0; i < 4; ++i) sums[i] += team.shuffle_xor(sums[i], mask);
  }
  const float offset = active ? sums[1] / sums[0] : 0.0F;
  const float between = sums[2] - offset * sums[1];
  return {sums[0], pivot + offset, sums[3] + (between < 0.0F ? 0.0F : between)};
}

// The moments of every channel, from those of each block's positions: a mean and an M2 in `own`, which the caller's
// threads have stored and synchronised, into `merged`.
template <typename Team>
SN_HOST_DEVICE void exchange_channels(Team& team, const Arguments& a, const Exchange& e, const Planes& own,
                                      const Planes& merged) {
  const std::int64_t bytes = (a.channels * kMomentsBytes + 15) / 16 * 16;
  if (!e.cluster) {
    float* mine = message(a, e, e.rank, bytes);
    for (std::int64_t c = team.thread(); c < a.channels; c += team.threads()) {
      mine[c] = own.plane(0)[c];
      mine[a.channels + c] = own.plane(1)[c];
    }
  }
  meet(team, a, e);
  const auto parts = static_cast<int>(e.blocks);
  int lanes = 1;
  while (lanes < 32 && 2 * lanes <= parts && 2 * lanes * a.channels <= team.threads()) lanes *= 2;
  const int channels = team.threads() / lanes;  // at once
  for (std::int64_t first = 0; first < a.channels; first += channels) {
    const std::int64_t c = first + team.thread() / lanes;
    const int lane = team.thread() % lanes;
    const Moments<float> total = merge_parts(
        team, parts, lane, lanes, c < a.channels, e.cluster ? own.stride : a.channels,
        [&](int rank) { return static_cast<float>(piece(rank, a.spatial_per_block, a.spatial).count); },
        [&](int rank) { return (e.cluster ? team.peer(own.base, rank) : message(a, e, rank, bytes)) + c; });
    if (lane == 0 && c < a.channels) {
      merged.plane(0)[c] = total.mean;
      merged.plane(1)[c] = total.m2;
    }
  }
}

}  // namespace sn_deploy::cuda
