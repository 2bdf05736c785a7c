// Elements of X and Y, and accesses of up to 16 bytes.
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

// NaN stays NaN, as in ONNX's Relu.
SN_HOST_DEVICE float relu_of(float y) {
#if __CUDA_ARCH__ >= 800
  float result;
  asm("max.NaN.f32 %0, %1, 0f00000000;" : "=f"(result) : "f"(y));
  return result;
#else
  return y < 0.0F ? 0.0F : y;
#endif
}

// Two at once: alone, a half type's rounding has a sixteenth of the speed.
SN_HOST_DEVICE void store_pair(float a, float b, float* to) {
  to[0] = a;
  to[1] = b;
}
SN_HOST_DEVICE void store_pair(float a, float b, __half* to) {
  const __half2 pair = __floats2half2_rn(a, b);
  to[0] = pair.x;
  to[1] = pair.y;
}
SN_HOST_DEVICE void store_pair(float a, float b, __nv_bfloat16* to) {
  const __nv_bfloat162 pair = __floats2bfloat162_rn(a, b);
  to[0] = pair.x;
  to[1] = pair.y;
}

// V elements in a row: one access of 4, 8 or 16 bytes, or V = 1.
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

// Each rounded to T.
template <typename T, int V>
SN_HOST_DEVICE Vector<T, V> rounded(const float (&values)[V]) {
  Vector<T, V> result;
  if constexpr (V == 1) {
    result.values[0] = from_float<T>(values[0]);
  } else {
    SN_UNROLL
    for (int k = 0; k < V; k += 2) store_pair(values[k], values[k + 1], result.values + k);
  }
  return result;
}

// What one access moves.
template <int kBytes>
struct Access;
template <>
struct Access<4> {
  using Type = unsigned;
};
template <>
struct Access<8> {
  using Type = uint2;
};
template <>
struct Access<16> {
  using Type = uint4;
};

// A single element is read and written as such: of memcpy, nvcc makes an access for each byte, and of the first byte of
// a rounded half, ptxas of CUDA 13.0 the value in place of its bits.
template <int V, typename T>
SN_HOST_DEVICE Vector<T, V> load(const T* address) {
  check_aligned<V>(address);
  Vector<T, V> result;
  if constexpr (V == 1) {
    result.values[0] = *address;
  } else {
#if defined(__CUDA_ARCH__)
    const auto raw = *reinterpret_cast<const typename Access<sizeof(T) * V>::Type*>(address);
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
    typename Access<sizeof(T) * V>::Type raw;
    memcpy(&raw, &vector, sizeof raw);
    *reinterpret_cast<decltype(raw)*>(address) = raw;
#else
    memcpy(static_cast<void*>(address), &vector, sizeof vector);
#endif
  }
}

// Of a linear layout's row, or of a position's channels.
template <typename T>
inline constexpr int kFullVector = static_cast<int>(16 / sizeof(T));

}  // namespace sn_deploy::cuda
