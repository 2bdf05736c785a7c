// Eight floats in an AVX2 register, with FMA and F16C. Every vector_*.h has these names; see vector_baseline.h.
#pragma once

#include <immintrin.h>

#include <cstdint>
#include <cstring>

#include "cpu/half.h"

namespace sn_deploy::cpu::avx2 {

using Vector = __m256;
constexpr int kWidth = 8;

SN_HOST_DEVICE __m256i lanes(std::int64_t count) {
  return _mm256_cmpgt_epi32(_mm256_set1_epi32(static_cast<int>(count)), _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7));
}

SN_HOST_DEVICE Vector zero() { return _mm256_setzero_ps(); }
SN_HOST_DEVICE Vector broadcast(float value) { return _mm256_set1_ps(value); }
SN_HOST_DEVICE Vector add(Vector a, Vector b) { return _mm256_add_ps(a, b); }
SN_HOST_DEVICE Vector subtract(Vector a, Vector b) { return _mm256_sub_ps(a, b); }
SN_HOST_DEVICE Vector multiply_add(Vector a, Vector b, Vector c) { return _mm256_fmadd_ps(a, b, c); }
SN_HOST_DEVICE Vector relu(Vector a) { return _mm256_max_ps(_mm256_setzero_ps(), a); }
SN_HOST_DEVICE Vector first(Vector a, std::int64_t count) {
  return _mm256_and_ps(a, _mm256_castsi256_ps(lanes(count)));
}

SN_HOST_DEVICE Vector from_bits(__m128i bits, Half) { return _mm256_cvtph_ps(bits); }
SN_HOST_DEVICE Vector from_bits(__m128i bits, Bfloat16) {
  return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(bits), 16));
}

SN_HOST_DEVICE __m128i to_bits(Vector value, Half) { return _mm256_cvtps_ph(value, _MM_FROUND_TO_NEAREST_INT); }
SN_HOST_DEVICE __m128i to_bits(Vector value, Bfloat16) {
  const __m256i bits = _mm256_castps_si256(value);
  const __m256i odd = _mm256_and_si256(_mm256_srli_epi32(bits, 16), _mm256_set1_epi32(1));
  const __m256i rounded = _mm256_add_epi32(bits, _mm256_add_epi32(odd, _mm256_set1_epi32(0x7FFF)));
  const __m256i quiet = _mm256_or_si256(bits, _mm256_set1_epi32(0x400000));
  const __m256i nan = _mm256_castps_si256(_mm256_cmp_ps(value, value, _CMP_UNORD_Q));
  const __m256i high = _mm256_srli_epi32(_mm256_blendv_epi8(rounded, quiet, nan), 16);
  return _mm_packus_epi32(_mm256_castsi256_si128(high), _mm256_extracti128_si256(high, 1));
}

SN_HOST_DEVICE Vector load(const float* x) { return _mm256_loadu_ps(x); }
SN_HOST_DEVICE Vector load(const float* x, std::int64_t count) { return _mm256_maskload_ps(x, lanes(count)); }
SN_HOST_DEVICE void store(Vector value, float* y) { _mm256_storeu_ps(y, value); }
SN_HOST_DEVICE void store(Vector value, float* y, std::int64_t count) { _mm256_maskstore_ps(y, lanes(count), value); }

template <typename T>
SN_HOST_DEVICE Vector load(const T* x) {
  return from_bits(_mm_loadu_si128(reinterpret_cast<const __m128i*>(x)), T{});
}
template <typename T>
SN_HOST_DEVICE void store(Vector value, T* y) {
  _mm_storeu_si128(reinterpret_cast<__m128i*>(y), to_bits(value, T{}));
}

// AVX2 has no masks for 16 bits: the end of a row goes in pieces of 8, 4 and 2 bytes. (Through memory, a wide load
// would wait for the narrow stores before it.)
template <typename T>
SN_HOST_DEVICE std::uint64_t load_below_four(const T* x, std::int64_t count) {
  std::uint32_t pair = 0;
  std::uint16_t last = 0;
  if (count & 2) std::memcpy(&pair, x, sizeof pair);
  if (count & 1) std::memcpy(&last, x + (count & 2), sizeof last);
  return pair | static_cast<std::uint64_t>(last) << (8 * sizeof last * static_cast<unsigned>(count & 2));
}
template <typename T>
SN_HOST_DEVICE Vector load(const T* x, std::int64_t count) {
  if (count >= kWidth) return load(x);
  std::uint64_t four = 0;
  if (count & 4) std::memcpy(&four, x, sizeof four);
  const auto rest = static_cast<std::int64_t>(load_below_four(x + (count & 4), count & 3));
  const auto first = static_cast<std::int64_t>(four);
  return from_bits(count & 4 ? _mm_set_epi64x(rest, first) : _mm_cvtsi64_si128(rest), T{});
}
template <typename T>
SN_HOST_DEVICE void store(Vector value, T* y, std::int64_t count) {
  if (count >= kWidth) return store(value, y);
  __m128i bits = to_bits(value, T{});
  if (count & 4) {
    _mm_storel_epi64(reinterpret_cast<__m128i*>(y), bits);
    bits = _mm_unpackhi_epi64(bits, bits);
    y += 4;
  }
  auto rest = static_cast<std::uint64_t>(_mm_cvtsi128_si64(bits));
  if (count & 2) {
    std::memcpy(y, &rest, 4);
    rest >>= 32;
    y += 2;
  }
  if (count & 1) std::memcpy(y, &rest, 2);
}

SN_HOST_DEVICE __m128 halves(Vector a) { return _mm_add_ps(_mm256_castps256_ps128(a), _mm256_extractf128_ps(a, 1)); }

SN_HOST_DEVICE void sums(Vector a, Vector b, Vector c, Vector d, float* out) {
  const __m128 ab = _mm_hadd_ps(halves(a), halves(b));
  const __m128 cd = _mm_hadd_ps(halves(c), halves(d));
  _mm_storeu_ps(out, _mm_hadd_ps(ab, cd));
}

}  // namespace sn_deploy::cpu::avx2
