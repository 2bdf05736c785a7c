// Sums of a channel's values about a pivot, from which its moments follow without a merge: sums of parts just add up,
// in any thread, lane or warp.
//
// Pivots are of the channel's own values, so where the mean is large against the deviation the subtraction is exact.
// The further the pivot is from the mean, the more digits of M2 its sums cost: a first one is the mean of four of the
// values, and where that was too far off, once more about the mean that it gave, which is the corrected two-pass
// algorithm.
#pragma once

#include "core/switch_norm.h"
#include "cuda/kernels/elements.h"

namespace sn_deploy::cuda {

struct Sums {
  float sum, squares;
};

// Offsets in a slice need 64 bits where it lies in global memory, which takes hundreds of cycles to answer, and 32 in
// shared memory.
template <typename I>
inline constexpr bool kIsFar = sizeof(I) > 4;

SN_HOST_DEVICE void add_value(Sums& sums, float from_pivot) {
  sums.sum += from_pivot;
  sums.squares += from_pivot * from_pivot;
}

// Long sums lose digits to the sum's own rounding: so values are added up by a few, these by kBranches, and those at
// last.
inline constexpr int kBranches = 32;

SN_HOST_DEVICE void add_sums(Sums& sums, const Sums& part) {
  sums.sum += part.sum;
  sums.squares += part.squares;
}

// The mean of four of `count` values, `pitch` apart; 0 where there are none. Exactly the values where all are equal.
template <typename I, typename T>
SN_HOST_DEVICE float pivot_of(const T* x, I pitch, I count) {
  if (count <= 0) return 0.0F;
  const I quarter = count >> 2;
  const float a = to_float(x[0]);
  const float b = to_float(x[quarter * pitch]);
  const float c = to_float(x[2 * quarter * pitch]);
  const float d = to_float(x[3 * quarter * pitch]);
  return (0.25F * a + 0.25F * b) + (0.25F * c + 0.25F * d);
}

// A few floats for each channel, in shared memory or in the workspace, a plane for each of them: first a mean and an
// M2, later the affine map. In planes, since a thread takes those of neighbouring channels.
struct Planes {
  float* base;
  std::int64_t stride;
  SN_HOST_DEVICE float* plane(int index) const { return base + index * stride; }
};

// From the sums of `count` values to their mean and M2. Whether the pivot was more than two deviations from the mean:
// then M2 has lost more than two bits.
SN_HOST_DEVICE bool store_moments(Sums sums, float count, float pivot, const Planes& into, int channel) {
  const float offset = count > 0.0F ? sums.sum / count : 0.0F;
  const float lost = offset * sums.sum;
  const float m2 = sums.squares - lost;
  into.plane(0)[channel] = pivot + offset;
  into.plane(1)[channel] = m2 < 0.0F ? 0.0F : m2;  // written so that NaN stays NaN
  return lost > 4.0F * m2;
}

SN_HOST_DEVICE Moments<float> moments_at(const Planes& from, std::int64_t channel, std::int64_t count) {
  return {static_cast<float>(count), from.plane(0)[channel], from.plane(1)[channel]};
}

// A slice that is read where it lies: what Team::Fetch is for one that is copied first.
struct NoFetch {
  SN_HOST_DEVICE int pieces() const { return 1; }
  SN_HOST_DEVICE std::int64_t rows_of_piece() const { return INT64_MAX; }  // of any number
  SN_HOST_DEVICE void wait(int) const {}
};

}  // namespace sn_deploy::cuda
