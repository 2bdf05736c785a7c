// Sixteen floats in an AVX-512 register (F, BW, DQ, VL). Every vector_*.h has these names; see vector_baseline.h.
#pragma once

#include <immintrin.h>

#include <cstdint>

#include "cpu/half.h"

namespace sn_deploy::cpu::avx512 {

using Vector = __m512;
constexpr int kWidth = 16;

SN_HOST_DEVICE __mmask16 lanes(std::int64_t count) { return static_cast<__mmask16>((1U << count) - 1U); }

SN_HOST_DEVICE Vector zero() { return _mm512_setzero_ps(); }
SN_HOST_DEVICE Vector broadcast(float value) { return _mm512_set1_ps(value); }
SN_HOST_DEVICE Vector add(Vector a, Vector b) { return _mm512_add_ps(a, b); }
SN_HOST_DEVICE Vector subtract(Vector a, Vector b) { return _mm512_sub_ps(a, b); }
SN_HOST_DEVICE Vector multiply_add(Vector a, Vector b, Vector c) { return _mm512_fmadd_ps(a, b, c); }
SN_HOST_DEVICE Vector relu(Vector a) { return _mm512_max_ps(_mm512_setzero_ps(), a); }
SN_HOST_DEVICE Vector first(Vector a, std::int64_t count) { return _mm512_maskz_mov_ps(lanes(count), a); }

SN_HOST_DEVICE Vector from_bfloat16(__m256i bits) {
  return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(bits), 16));
}

SN_HOST_DEVICE __m256i to_bfloat16(Vector value) {
  const __m512i bits = _mm512_castps_si512(value);
  const __m512i odd = _mm512_and_si512(_mm512_srli_epi32(bits, 16), _mm512_set1_epi32(1));
  const __m512i rounded = _mm512_add_epi32(bits, _mm512_add_epi32(odd, _mm512_set1_epi32(0x7FFF)));
  const __mmask16 nan = _mm512_cmp_ps_mask(value, value, _CMP_UNORD_Q);
  const __m512i quiet = _mm512_or_si512(bits, _mm512_set1_epi32(0x400000));
  return _mm512_cvtepi32_epi16(_mm512_srli_epi32(_mm512_mask_mov_epi32(rounded, nan, quiet), 16));
}

SN_HOST_DEVICE __m256i to_half(Vector value) { return _mm512_cvtps_ph(value, _MM_FROUND_TO_NEAREST_INT); }

SN_HOST_DEVICE Vector load(const float* x) { return _mm512_loadu_ps(x); }
SN_HOST_DEVICE Vector load(const Half* x) {
  return _mm512_cvtph_ps(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(x)));
}
SN_HOST_DEVICE Vector load(const Bfloat16* x) {
  return from_bfloat16(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(x)));
}

SN_HOST_DEVICE Vector load(const float* x, std::int64_t count) { return _mm512_maskz_loadu_ps(lanes(count), x); }
SN_HOST_DEVICE Vector load(const Half* x, std::int64_t count) {
  return _mm512_cvtph_ps(_mm256_maskz_loadu_epi16(lanes(count), x));
}
SN_HOST_DEVICE Vector load(const Bfloat16* x, std::int64_t count) {
  return from_bfloat16(_mm256_maskz_loadu_epi16(lanes(count), x));
}

SN_HOST_DEVICE void store(Vector value, float* y) { _mm512_storeu_ps(y, value); }
SN_HOST_DEVICE void store(Vector value, Half* y) { _mm256_storeu_si256(reinterpret_cast<__m256i*>(y), to_half(value)); }
SN_HOST_DEVICE void store(Vector value, Bfloat16* y) {
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(y), to_bfloat16(value));
}

SN_HOST_DEVICE void store(Vector value, float* y, std::int64_t count) { _mm512_mask_storeu_ps(y, lanes(count), value); }
SN_HOST_DEVICE void store(Vector value, Half* y, std::int64_t count) {
  _mm256_mask_storeu_epi16(y, lanes(count), to_half(value));
}
SN_HOST_DEVICE void store(Vector value, Bfloat16* y, std::int64_t count) {
  _mm256_mask_storeu_epi16(y, lanes(count), to_bfloat16(value));
}

SN_HOST_DEVICE __m128 quarters(Vector a) {
  const __m256 half = _mm256_add_ps(_mm512_castps512_ps256(a), _mm512_extractf32x8_ps(a, 1));
  return _mm_add_ps(_mm256_castps256_ps128(half), _mm256_extractf128_ps(half, 1));
}

SN_HOST_DEVICE void sums(Vector a, Vector b, Vector c, Vector d, float* out) {
  const __m128 ab = _mm_hadd_ps(quarters(a), quarters(b));
  const __m128 cd = _mm_hadd_ps(quarters(c), quarters(d));
  _mm_storeu_ps(out, _mm_hadd_ps(ab, cd));
}

}  // namespace sn_deploy::cpu::avx512
