// Elements of X and Y, and accesses of 16 bytes.
#pragma once

#include <cuda_bf16.h>
#include <cuda_fp16.h>

#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <type_traits>

#include "core/host_device.h"

#if defined(__CUDA_ARCH__)
#define SN_UNROLL _Pragma("unroll")
#define SN_NO_UNROLL _Pragma("unroll 1")
#else
#define SN_UNROLL
#define SN_NO_UNROLL
#endif

namespace sn_deploy::cuda {

SN_HOST_DEVICE float to_float(float x) { return x; }
SN_HOST_DEVICE float to_float(__half x) { return __half2float(x); }
SN_HOST_DEVICE float to_float(__nv_bfloat16 x) { return __bfloat162float(x); }

// Rounded to the nearest, ties to even.
template <typename T>
SN_HOST_DEVICE T from_float(float x) {
  if constexpr (std::is_same_v<T, float>) {
    return x;
  } else if constexpr (std::is_same_v<T, __half>) {
    return __float2half_rn(x);
  } else {
    return __float2bfloat16_rn(x);
  }
}

// V elements in a row: one access of 16 bytes, or V = 1.
template <typename T, int V>
struct alignas(sizeof(T) * V) Vector {
  T values[V];
};

// The GPU faults on an access that isn't aligned; the host, which runs the kernels in tests, has to look.
template <int V, typename T>
SN_HOST_DEVICE void check_aligned(const T* address) {
#if !defined(__CUDA_ARCH__)
  if (reinterpret_cast<std::uintptr_t>(address) % sizeof(Vector<T, V>) != 0) std::abort();
#else
  static_cast<void>(address);
#endif
}

template <int V, typename T>
SN_HOST_DEVICE Vector<T, V> load(const T* address) {
  static_assert(V == 1 || sizeof(Vector<T, V>) == 16);
  check_aligned<V>(address);
  Vector<T, V> result;
  if constexpr (V == 1) {
    result.values[0] = *address;  // memcpy becomes an access for each byte, which ptxas of CUDA 13.0 makes wrong code of
  } else {
#if defined(__CUDA_ARCH__)
    const uint4 raw = *reinterpret_cast<const uint4*>(address);
    memcpy(&result, &raw, sizeof raw);
#else
    memcpy(&result, address, sizeof result);
#endif
  }
  return result;
}

template <int V, typename T>
SN_HOST_DEVICE void store(T* address, const Vector<T, V>& vector) {
  check_aligned<V>(address);
  if constexpr (V == 1) {
    *address = vector.values[0];
  } else {
#if defined(__CUDA_ARCH__)
    uint4 raw;
    memcpy(&raw, &vector, sizeof raw);
    *reinterpret_cast<uint4*>(address) = raw;
#else
    memcpy(static_cast<void*>(address), &vector, sizeof vector);
#endif
  }
}

// Of a linear layout's row, or of a position's channels.
template <typename T>
inline constexpr int kFullVector = static_cast<int>(16 / sizeof(T));

}  // namespace sn_deploy::cuda
