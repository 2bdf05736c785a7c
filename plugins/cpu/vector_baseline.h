// Four floats in whatever register every processor of the architecture has: SSE2 on x86-64, NEON on aarch64. Written
// with the compiler's own vectors.
//
// What each vector_*.h gives `kernels.inc`:
//     Vector, kWidth                       the register and its number of floats
//     zero, broadcast, add, subtract
//     multiply_add(a, b, c)                a * b + c, rounded once where the instruction set can
//     relu                                 NaN stays NaN
//     first(a, count)                      the lanes from `count` on become 0
//     load(x[, count]), store(v, y[, count])   of float, Half or Bfloat16, at any address; lanes past `count` read as 0
//                                          and are not written
//     sums(a, b, c, d, out)                the sum of each vector's lanes, added in an order that is the same for all
#pragma once

#include <cstdint>
#include <cstring>

#include "cpu/half.h"

#if defined(__ARM_NEON)
#include <arm_neon.h>
#endif

namespace sn_deploy::cpu::baseline {

using Vector = float __attribute__((vector_size(16)));
using Mask = std::int32_t __attribute__((vector_size(16)));
using Bits = std::uint32_t __attribute__((vector_size(16)));
constexpr int kWidth = 4;

SN_HOST_DEVICE Vector zero() { return Vector{0, 0, 0, 0}; }
SN_HOST_DEVICE Vector broadcast(float value) { return Vector{value, value, value, value}; }
SN_HOST_DEVICE Vector add(Vector a, Vector b) { return a + b; }
SN_HOST_DEVICE Vector subtract(Vector a, Vector b) { return a - b; }

SN_HOST_DEVICE Vector multiply_add(Vector a, Vector b, Vector c) {
#if defined(__ARM_NEON)
  return reinterpret_cast<Vector>(
      vfmaq_f32(reinterpret_cast<float32x4_t>(c), reinterpret_cast<float32x4_t>(a), reinterpret_cast<float32x4_t>(b)));
#else
  return a * b + c;
#endif
}

SN_HOST_DEVICE Vector relu(Vector a) { return a < zero() ? zero() : a; }

SN_HOST_DEVICE Vector first(Vector a, std::int64_t count) {
  const auto wanted = static_cast<std::int32_t>(count);
  const Mask kept = Mask{0, 1, 2, 3} < Mask{wanted, wanted, wanted, wanted};
  return reinterpret_cast<Vector>(reinterpret_cast<Mask>(a) & kept);
}

// Four at a time what half.h does to one; every pattern is below 2^31, so signed comparisons do.
SN_HOST_DEVICE Vector from_bits(Bits bits, Half) {
  const Bits rest = bits & 0x7FFFU;
  const auto size = reinterpret_cast<Mask>(rest);
  // 0.5 is 2^23 of the smallest subnormal: these bits at its end are a number of them on top of it.
  const auto subnormal = reinterpret_cast<Bits>(reinterpret_cast<Vector>(rest | bits_of(0.5F)) - broadcast(0.5F));
  const Bits normal = (rest << 13) + (112U << 23);
  const Bits special = (rest << 13) | 0x7F800000U;  // infinity and NaN
  const Bits magnitude = size < 0x400 ? subnormal : (size < 0x7C00 ? normal : special);
  return reinterpret_cast<Vector>(((bits & 0x8000U) << 16) | magnitude);
}

SN_HOST_DEVICE Vector from_bits(Bits bits, Bfloat16) { return reinterpret_cast<Vector>(bits << 16); }

SN_HOST_DEVICE Bits to_bits(Vector value, Half) {
  const auto bits = reinterpret_cast<Bits>(value);
  const Bits magnitude = bits & 0x7FFFFFFFU;
  const auto size = reinterpret_cast<Mask>(magnitude);
  const Vector half = broadcast(0.5F);
  const Bits subnormal = reinterpret_cast<Bits>(reinterpret_cast<Vector>(magnitude) + half) - bits_of(0.5F);
  const Bits normal = (magnitude - 0x38000000U + 0xFFFU + ((magnitude >> 13) & 1U)) >> 13;
  const Bits infinity = Bits{} + 0x7C00U;
  const Bits nan = ((magnitude >> 13) & 0x3FFU) | 0x7E00U;
  const Bits finite = size < 0x38800000 ? subnormal : normal;
  const Bits rounded = size < 0x477FF000 ? finite : (size <= 0x7F800000 ? infinity : nan);
  return ((bits >> 16) & 0x8000U) | rounded;
}

SN_HOST_DEVICE Bits to_bits(Vector value, Bfloat16) {
  const auto bits = reinterpret_cast<Bits>(value);
  const auto size = reinterpret_cast<Mask>(bits & 0x7FFFFFFFU);
  const Bits rounded = bits + 0x7FFFU + ((bits >> 16) & 1U);
  const Bits quiet = bits | 0x400000U;
  return (size > 0x7F800000 ? quiet : rounded) >> 16;
}

SN_HOST_DEVICE Vector load(const float* x) {
  Vector value;
  std::memcpy(&value, x, sizeof value);
  return value;
}

template <typename T>
SN_HOST_DEVICE Vector load(const T* x) {
  std::uint16_t bits[kWidth];
  std::memcpy(bits, x, sizeof bits);
  return from_bits(Bits{bits[0], bits[1], bits[2], bits[3]}, T{});
}

template <typename T>
SN_HOST_DEVICE Vector load(const T* x, std::int64_t count) {
  T copy[kWidth] = {};
  for (std::int64_t i = 0; i < count; ++i) copy[i] = read_from(x + i);
  return load(copy);
}

SN_HOST_DEVICE void store(Vector value, float* y) { std::memcpy(y, &value, sizeof value); }

template <typename T>
SN_HOST_DEVICE void store(Vector value, T* y) {
  const Bits wide = to_bits(value, T{});
  const std::uint16_t bits[kWidth] = {static_cast<std::uint16_t>(wide[0]), static_cast<std::uint16_t>(wide[1]),
                                      static_cast<std::uint16_t>(wide[2]), static_cast<std::uint16_t>(wide[3])};
  std::memcpy(y, bits, sizeof bits);
}

template <typename T>
SN_HOST_DEVICE void store(Vector value, T* y, std::int64_t count) {
  T copy[kWidth];
  store(value, copy);
  for (std::int64_t i = 0; i < count; ++i) write_to(y + i, copy[i]);
}

SN_HOST_DEVICE void sums(Vector a, Vector b, Vector c, Vector d, float* out) {
  store(Vector{(a[0] + a[1]) + (a[2] + a[3]), (b[0] + b[1]) + (b[2] + b[3]), (c[0] + c[1]) + (c[2] + c[3]),
               (d[0] + d[1]) + (d[2] + d[3])},
        out);
}

}  // namespace sn_deploy::cpu::baseline
