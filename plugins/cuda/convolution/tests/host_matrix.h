// device_matrix.h on the host: each lane shows the others what it holds, and computes its own part of what the
// instructions' definitions give (PTX ISA, "Matrix multiply-accumulate operation using mma instruction" for m16n8k16,
// and "ldmatrix").
#pragma once

#include <cstring>

#include "cuda/convolution/arguments.h"
#include "cuda/tests/host_grid.h"

namespace sn_deploy::cuda::test {

// There when it returns: who doesn't wait is seen by the thread sanitizer alone.
template <typename T>
void copy_async(HostTeam&, T* to, const T* from) {
  store<kFullVector<T>>(to, load<kFullVector<T>>(from));
}

inline void await_copies(HostTeam& team) { team.sync(); }

template <typename T>
T* hold(const HostTeam&, T* pointer) {
  return pointer;
}

template <typename T, int V>
void round_relu(const HostTeam&, const float (&values)[V], Vector<T, V>& result) {
  float positive[V];
  for (int k = 0; k < V; ++k) positive[k] = relu_of(values[k]);
  result = rounded<T>(positive);
}

inline float shuffle(HostTeam& team, float value, int lane) {
  return team.of_warp(value)[static_cast<std::size_t>(lane)];
}

template <typename T>
void load_matrices(HostTeam& team, Pair<T> (&pairs)[4], const T* row) {
  check_aligned<kFullVector<T>>(row);
  const auto rows = team.of_warp(row);
  for (int i = 0; i < 4; ++i) {
    const T* named = rows[static_cast<std::size_t>(8 * i + team.lane() / 4)];
    std::memcpy(&pairs[i].bits, named + 2 * (team.lane() % 4), sizeof pairs[i].bits);
  }
}

template <typename T>
float element(Pair<T> pair, int which) {
  T both[2];
  std::memcpy(static_cast<void*>(both), &pair.bits, sizeof both);
  return to_float(both[which]);
}

template <typename T>
void multiply_add(HostTeam& team, float (&sums)[4], const Pair<T> (&a)[4], Pair<T> b0, Pair<T> b1) {
  struct Fragments {
    Pair<T> a[4], b[2];
  };
  const auto all = team.of_warp(Fragments{{a[0], a[1], a[2], a[3]}, {b0, b1}});
  // Element (row, k) of A: lane 4 (row % 8) + (k % 8) / 2 has it, in register row / 8 + 2 (k / 8).
  const auto left = [&](int row, int k) {
    return element(all[static_cast<std::size_t>(row % 8 * 4 + k % 8 / 2)].a[row / 8 + 2 * (k / 8)], k % 2);
  };
  // Element (k, column) of B: lane 4 column + (k % 8) / 2, register k / 8.
  const auto right = [&](int k, int column) {
    return element(all[static_cast<std::size_t>(column * 4 + k % 8 / 2)].b[k / 8], k % 2);
  };
  for (int i = 0; i < 4; ++i) {
    const int row = team.lane() / 4 + i / 2 * 8;
    const int column = team.lane() % 4 * 2 + i % 2;
    for (int k = 0; k < 16; ++k) sums[i] += left(row, k) * right(k, column);
  }
}

}  // namespace sn_deploy::cuda::test
