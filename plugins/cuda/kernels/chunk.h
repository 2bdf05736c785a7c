// Moments of the values that a thread holds in registers, by the corrected two-pass algorithm.
//
// Values are taken relative to a pivot, one of the channel's own: |pivot - mean| is at most sqrt(n) standard
// deviations, so nothing is lost by it, and where the mean is large against the deviation the subtraction is exact.
// Without it a thread's means would be rounded to the mean's last digit, which merging turns into an error of the
// variance.
#pragma once

#include "core/switch_norm.h"
#include "cuda/kernels/elements.h"

namespace sn_deploy::cuda {

// Of all values of `vectors`, around the pivot.
template <int kCount, int V, typename T>
SN_HOST_DEVICE Moments<float> chunk_moments(const Vector<T, V> (&vectors)[kCount], float pivot) {
  constexpr float kValues = kCount * V;
  float sum = 0.0F;
  SN_UNROLL
  for (int u = 0; u < kCount; ++u) {
    SN_UNROLL
    for (int k = 0; k < V; ++k) sum += to_float(vectors[u].values[k]) - pivot;
  }
  const float centre = sum / kValues;
  float rest = 0.0F;
  float squares = 0.0F;
  SN_UNROLL
  for (int u = 0; u < kCount; ++u) {
    SN_UNROLL
    for (int k = 0; k < V; ++k) {
      const float d = (to_float(vectors[u].values[k]) - pivot) - centre;
      rest += d;
      squares += d * d;
    }
  }
  return moments_from_centred_sums(kValues, centre, rest, squares);
}

// Of element k of each of the vectors: one channel of channels-last.
template <int kCount, int V, typename T>
SN_HOST_DEVICE Moments<float> column_moments(const Vector<T, V> (&vectors)[kCount], int k, float pivot) {
  constexpr float kValues = kCount;
  float sum = 0.0F;
  SN_UNROLL
  for (int u = 0; u < kCount; ++u) sum += to_float(vectors[u].values[k]) - pivot;
  const float centre = sum / kValues;
  float rest = 0.0F;
  float squares = 0.0F;
  SN_UNROLL
  for (int u = 0; u < kCount; ++u) {
    const float d = (to_float(vectors[u].values[k]) - pivot) - centre;
    rest += d;
    squares += d * d;
  }
  return moments_from_centred_sums(kValues, centre, rest, squares);
}

}  // namespace sn_deploy::cuda
