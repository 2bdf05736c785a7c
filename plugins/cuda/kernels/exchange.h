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

// Whether the blocks are a cluster; known to the compiler, but for the host.
template <typename Team>
SN_HOST_DEVICE bool is_cluster(const Exchange& e) {
  return Team::kHasClusters && (!Team::kIsCooperative || e.cluster);
}

// Everything that was stored before is seen by the other blocks after it. For all threads of the block.
template <typename Team>
SN_HOST_DEVICE void meet(Team& team, const Arguments& a, const Exchange& e) {
  if (is_cluster<Team>(e)) {
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
  const bool cluster = is_cluster<Team>(e);
  const auto read = [&](const float* from) { return cluster ? team.of_peer(from) : team.fresh(from); };
  float* mine = cluster ? slot : message(a, e, e.rank, kLayerBytes);
  if (team.thread() == 0) {
    mine[0] = own.mean;
    mine[1] = own.m2;
    mine[2] = own.var_sum;
  }
  meet(team, a, e);
  if (team.warp() == 0) {
    constexpr int kRounds = Team::kIsCooperative ? kMaxBlocksPerSample / 32 : 1;  // a cluster has 16 at most
    float mean[kRounds] = {};
    float m2[kRounds] = {};
    float var_sum[kRounds] = {};
    float count[kRounds] = {};
    // Block 0 has channels in any case, and its mean is among theirs.
    const float pivot = read(cluster ? team.peer(slot, 0) : message(a, e, 0, kLayerBytes));
    SN_UNROLL
    for (int round = 0; round < kRounds; ++round) {
      const int rank = team.lane() + 32 * round;
      if (rank >= e.blocks) break;
      const float* from = cluster ? team.peer(slot, rank) : message(a, e, rank, kLayerBytes);
      mean[round] = read(from);
      m2[round] = read(from + 1);
      var_sum[round] = read(from + 2);
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

// The moments of a channel from those of several parts of its positions, of which part i has count(i), and mean and M2
// at where(i) and `plane` floats behind: Chan's formula for all at once, about the first part's mean. Sums add up over
// threads that share the parts.
struct PartSums {
  float count, distances, squares, m2;
};

template <typename Read, typename Count, typename Where>
SN_HOST_DEVICE PartSums sum_parts(Read read, int parts, int first, int step, float pivot, std::int64_t plane,
                                  Count count, Where where) {
  constexpr int kUnroll = 4;
  PartSums sums = {};
  for (; first < parts; first += kUnroll * step) {
    float mean[kUnroll] = {};
    float m2[kUnroll] = {};
    SN_UNROLL
    for (int u = 0; u < kUnroll; ++u) {  // all are asked for before any is used
      const int part = first + u * step;
      if (part < parts) {
        const float* from = where(part);
        mean[u] = read(from);
        m2[u] = read(from + plane);
      }
    }
    SN_UNROLL
    for (int u = 0; u < kUnroll; ++u) {
      const int part = first + u * step;
      const float own = part < parts ? count(part) : 0.0F;
      if (own > 0.0F) {
        const float apart = mean[u] - pivot;
        sums.count += own;
        sums.distances += own * apart;
        sums.squares += own * apart * apart;
        sums.m2 += m2[u];
      }
    }
  }
  return sums;
}

SN_HOST_DEVICE Moments<float> moments_of(const PartSums& sums, float pivot) {
  const float offset = sums.distances / sums.count;
  const float between = sums.squares - offset * sums.distances;
  return {sums.count, pivot + offset, sums.m2 + (between < 0.0F ? 0.0F : between)};
}

// The moments of some channels, from those of all parts of their positions, into `merged`: at(part) is where the first
// channel's mean lies, M2s `plane` floats behind the means, and read(address) takes one. Neighbouring threads take
// neighbouring channels, so that what they read of a part is one access; where there are threads enough, several share
// a channel's parts. `fold` has room for four floats of each thread. The caller has to synchronise before others may
// use what was stored.
template <typename Team, typename At, typename Read>
SN_HOST_DEVICE void merge_channels(Team& team, const Arguments& a, int parts, int channels, std::int64_t plane, At at,
                                   Read read, const Planes& merged, float* fold) {
  const auto count = [&a](int part) { return static_cast<float>(piece(part, a.spatial_per_block, a.spatial).count); };
  const int width = channels < team.threads() ? channels : team.threads();
  const int groups = team.threads() / width < parts ? team.threads() / width : parts;
  const int group = team.thread() / width;
  for (int c = team.thread() % width; c < channels && group < groups; c += width) {
    const float pivot = read(at(0) + c);
    const PartSums sums =
        sum_parts(read, parts, group, groups, pivot, plane, count, [&at, c](int part) { return at(part) + c; });
    if (groups == 1) {
      const Moments<float> total = moments_of(sums, pivot);
      merged.plane(0)[c] = total.mean;
      merged.plane(1)[c] = total.m2;
    } else {
      float* slot = fold + group * 4 * width + c;
      slot[0] = sums.count;
      slot[width] = sums.distances;
      slot[2 * width] = sums.squares;
      slot[3 * width] = sums.m2;
      if (group == 0) merged.plane(0)[c] = pivot;
    }
  }
  if (groups == 1) return;
  team.sync();
  for (int c = team.thread(); c < channels; c += team.threads()) {
    PartSums sums = {};
    for (int i = 0; i < groups; ++i) {
      const float* slot = fold + i * 4 * width + c;
      sums.count += slot[0];
      sums.distances += slot[width];
      sums.squares += slot[2 * width];
      sums.m2 += slot[3 * width];
    }
    const Moments<float> total = moments_of(sums, merged.plane(0)[c]);
    merged.plane(0)[c] = total.mean;
    merged.plane(1)[c] = total.m2;
  }
}

// The moments of every channel, from those of each block's positions: a mean and an M2 in `own`, which the caller's
// threads have stored and synchronised, into `merged`. As merge_channels.
template <typename Team>
SN_HOST_DEVICE void exchange_channels(Team& team, const Arguments& a, const Exchange& e, const Planes& own,
                                      const Planes& merged, float* fold) {
  const auto channels = static_cast<int>(a.channels);  // all are in shared memory
  const std::int64_t bytes = (a.channels * kMomentsBytes + 15) / 16 * 16;
  const bool cluster = is_cluster<Team>(e);
  if (!cluster) {
    float* mine = message(a, e, e.rank, bytes);
    for (int c = team.thread(); c < channels; c += team.threads()) {
      mine[c] = own.plane(0)[c];
      mine[channels + c] = own.plane(1)[c];
    }
  }
  meet(team, a, e);
  merge_channels(
      team, a, static_cast<int>(e.blocks), channels, cluster ? own.stride : a.channels,
      [&](int rank) { return cluster ? team.peer(own.base, rank) : message(a, e, rank, bytes); },
      [&](const float* from) { return cluster ? team.of_peer(from) : team.fresh(from); }, merged, fold);
}

}  // namespace sn_deploy::cuda
