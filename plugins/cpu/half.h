// float16 and bfloat16 as bits, one at a time: what the conversions of vectors are held against.
#pragma once

#include <cstdint>
#include <cstring>

#include "core/host_device.h"

namespace sn_deploy::cpu {

struct Half {
  std::uint16_t bits;
};

struct Bfloat16 {
  std::uint16_t bits;
};

SN_HOST_DEVICE std::uint32_t bits_of(float value) {
  std::uint32_t bits;
  std::memcpy(&bits, &value, sizeof bits);
  return bits;
}

SN_HOST_DEVICE float float_of(std::uint32_t bits) {
  float value;
  std::memcpy(&value, &bits, sizeof value);
  return value;
}

// From any address, and to any: a tensor that ONNX Runtime maps from a file begins wherever its bytes do.
template <typename T>
SN_HOST_DEVICE T read_from(const T* address) {
  T value;
  std::memcpy(&value, address, sizeof value);
  return value;
}

template <typename T>
SN_HOST_DEVICE void write_to(T* address, T value) {
  std::memcpy(address, &value, sizeof value);
}

SN_HOST_DEVICE float to_float(float value) { return value; }

SN_HOST_DEVICE float to_float(Bfloat16 value) { return float_of(static_cast<std::uint32_t>(value.bits) << 16); }

// Rescaling by a power of two turns the half's exponent into a float's. A subnormal half would be a subnormal float
// before, which a thread may be told to take for 0 (ONNX Runtime's session.set_denormal_as_zero); it is no such float.
SN_HOST_DEVICE float to_float(Half value) {
  const std::uint32_t sign = static_cast<std::uint32_t>(value.bits & 0x8000U) << 16;
  const std::uint32_t rest = value.bits & 0x7FFFU;
  if (rest >= 0x7C00U) return float_of(sign | 0x7F800000U | (rest << 13));  // infinity and NaN
  const float magnitude = rest < 0x400U ? static_cast<float>(rest) * 0x1p-24F : float_of(rest << 13) * 0x1p112F;
  return float_of(sign | bits_of(magnitude));
}

SN_HOST_DEVICE void from_float(float value, float* out) { *out = value; }

// Rounds to nearest, ties to even; NaN keeps its sign and becomes quiet.
SN_HOST_DEVICE void from_float(float value, Bfloat16* out) {
  const std::uint32_t bits = bits_of(value);
  const bool nan = (bits & 0x7FFFFFFFU) > 0x7F800000U;
  const std::uint32_t rounded = bits + 0x7FFFU + ((bits >> 16) & 1U);
  out->bits = static_cast<std::uint16_t>((nan ? bits | 0x400000U : rounded) >> 16);
}

SN_HOST_DEVICE void from_float(float value, Half* out) {
  const std::uint32_t bits = bits_of(value);
  const std::uint32_t sign = (bits >> 16) & 0x8000U;
  const std::uint32_t magnitude = bits & 0x7FFFFFFFU;
  std::uint32_t half;
  if (magnitude > 0x7F800000U) {
    half = 0x7E00U | ((magnitude >> 13) & 0x3FFU);  // NaN
  } else if (magnitude >= 0x477FF000U) {
    half = 0x7C00U;  // 65520 and above round to infinity
  } else if (magnitude < 0x38800000U) {
    // Subnormal: adding 0.5 leaves the half's bits, rounded by the addition, at the end of the mantissa.
    half = bits_of(float_of(magnitude) + 0.5F) - bits_of(0.5F);
  } else {
    half = (magnitude - 0x38000000U + 0xFFFU + ((magnitude >> 13) & 1U)) >> 13;
  }
  out->bits = static_cast<std::uint16_t>(sign | half);
}

}  // namespace sn_deploy::cpu
