// What a warp of the GPU does together for a matrix product; from compute capability 8.0 on.
#pragma once

#include "cuda/convolution/arguments.h"
#include "cuda/kernels/device_team.h"
#include "cuda/kernels/elements.h"

namespace sn_deploy::cuda {

// Asks for 16 bytes, which go past the registers and the L1 cache.
template <typename T>
SN_DEVICE void copy_async(const DeviceTeam&, T* to, const T* from) {
  const auto target = static_cast<unsigned>(__cvta_generic_to_shared(to));
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16;" ::"r"(target), "l"(from) : "memory");
}

// All that any thread of the block has asked for is there, for all of its threads.
SN_DEVICE void await_copies(const DeviceTeam& team) {
  asm volatile("cp.async.wait_all;" ::: "memory");
  team.sync();
}

// An address in global memory that stays in registers: else the compiler computes it from the arguments anew for each
// use. As a global one, so that accesses don't become generic.
template <typename T>
SN_DEVICE T* hold(const DeviceTeam&, T* address) {
  std::size_t held = __cvta_generic_to_global(address);
  asm volatile("" : "+l"(held));
  return static_cast<T*>(__cvta_global_to_generic(held));
}

// ReLU of each, rounded to T: one instruction for two. NaN stays NaN.
template <typename T, int V>
SN_DEVICE void round_relu(const DeviceTeam&, const float (&values)[V], Vector<T, V>& result) {
  SN_UNROLL
  for (int k = 0; k < V; k += 2) {
    unsigned pair;
    if constexpr (std::is_same_v<T, __half>) {
      asm("cvt.rn.relu.f16x2.f32 %0, %1, %2;" : "=r"(pair) : "f"(values[k + 1]), "f"(values[k]));
    } else {
      asm("cvt.rn.relu.bf16x2.f32 %0, %1, %2;" : "=r"(pair) : "f"(values[k + 1]), "f"(values[k]));
    }
    memcpy(static_cast<void*>(result.values + k), &pair, sizeof pair);
  }
}

SN_DEVICE float shuffle(const DeviceTeam&, float value, int lane) { return __shfl_sync(0xFFFFFFFFU, value, lane); }

// Four matrices of 8 x 8, of which lanes 8 i to 8 i + 7 name the rows of the i-th, of 16 bytes: a lane gets of each row
// l / 4, columns 2 (l % 4) and the next.
template <typename T>
SN_DEVICE void load_matrices(const DeviceTeam&, Pair<T> (&pairs)[4], const T* row) {
  const auto address = static_cast<unsigned>(__cvta_generic_to_shared(row));
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
               : "=r"(pairs[0].bits), "=r"(pairs[1].bits), "=r"(pairs[2].bits), "=r"(pairs[3].bits)
               : "r"(address)
               : "memory");
}

// sums += A B, A 16 x 16 and B 16 x 8 of T, with sums in float32. A in four matrices of 8 x 8: rows 0 to 7, rows 8 to
// 15, and the same of columns 8 to 15; B's columns as rows of two matrices.
template <typename T>
SN_DEVICE void multiply_add(const DeviceTeam&, float (&sums)[4], const Pair<T> (&a)[4], Pair<T> b0, Pair<T> b1) {
  if constexpr (std::is_same_v<T, __half>) {
    asm("mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, "
        "{%0, %1, %2, %3};"
        : "+f"(sums[0]), "+f"(sums[1]), "+f"(sums[2]), "+f"(sums[3])
        : "r"(a[0].bits), "r"(a[1].bits), "r"(a[2].bits), "r"(a[3].bits), "r"(b0.bits), "r"(b1.bits));
  } else {
    asm("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, "
        "{%0, %1, %2, %3};"
        : "+f"(sums[0]), "+f"(sums[1]), "+f"(sums[2]), "+f"(sums[3])
        : "r"(a[0].bits), "r"(a[1].bits), "r"(a[2].bits), "r"(a[3].bits), "r"(b0.bits), "r"(b1.bits));
  }
}

}  // namespace sn_deploy::cuda
