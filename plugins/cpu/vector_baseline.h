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

SN_HOST_DEVICE Vector load(const float* x) {
  Vector value;
  std::memcpy(&value, x, sizeof value);
  return value;
}

template <typename T>
SN_HOST_DEVICE Vector load(const T* x) {
  return Vector{to_float(read_from(x)), to_float(read_from(x + 1)), to_float(read_from(x + 2)),
                to_float(read_from(x + 3))};
}

template <typename T>
SN_HOST_DEVICE Vector load(const T* x, std::int64_t count) {
  Vector value = zero();
  for (std::int64_t i = 0; i < count; ++i) value[i] = to_float(read_from(x + i));
  return value;
}

SN_HOST_DEVICE void store(Vector value, float* y) { std::memcpy(y, &value, sizeof value); }

template <typename T>
SN_HOST_DEVICE void store(Vector value, T* y, std::int64_t count) {
  for (std::int64_t i = 0; i < count; ++i) {
    T converted;
    from_float(value[i], &converted);
    write_to(y + i, converted);
  }
}

template <typename T>
SN_HOST_DEVICE void store(Vector value, T* y) {
  store(value, y, kWidth);
}

SN_HOST_DEVICE void sums(Vector a, Vector b, Vector c, Vector d, float* out) {
  store(Vector{(a[0] + a[1]) + (a[2] + a[3]), (b[0] + b[1]) + (b[2] + b[3]), (c[0] + c[1]) + (c[2] + c[3]),
               (d[0] + d[1]) + (d[2] + d[3])},
        out);
}

}  // namespace sn_deploy::cpu::baseline
