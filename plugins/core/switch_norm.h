// Switchable Normalization at inference, as pure functions for host and device.
//
// X is (N, C, HW). Per sample n and channel c, over the HW positions (Luo et al., ICLR 2019, equations 2 to 4):
//
//     mean_in, var_in                                    var_in = M2 / (HW - ddof)
//     mean_ln = mean_c(mean_in)                          var_ln = mean_c(var_in) + mean_c((mean_in - mean_ln)^2)
//     mean    = w_in mean_in + w_ln mean_ln + mean_offset[c]        mean_offset = w_bn running_mean
//     var     = v_in var_in + v_ln var_ln + var_offset[c]           var_offset  = v_bn running_var + eps
//     y       = (x - mean) / sqrt(var) scale[c] + bias[c]
//
// It is computed on the centred value d = x - mean_in, y = d s + t, with
//
//     s = scale / sqrt(var)      t = (mean_in - mean) s + bias
//     mean_in - mean = (1 - w_in - w_ln) mean_in + w_ln (mean_in - mean_ln) - mean_offset
//
// which subtracts nothing from x but its own mean, so a large mean costs no digits. var_ln is the published
// mean_c(var_in + mean_in^2) - mean_ln^2 without its cancelling subtraction.
//
// Moments merge by Chan, Golub and LeVeque, "Updating formulae and a pairwise algorithm for computing sample
// variances" (1979), so the work may be split anyhow; single values join by Welford (1962), its case of one value.
//
// Rank 2, X (N, C): no IN part, w_in = v_in = 0, mean_ln and var_ln are over C with divisor C - ddof. A kernel takes a
// sample as one row of C values and uses `row_statistics` where it else uses `layer_statistics`.
//
// T is float or double: the type of the statistics, whatever X is.
#pragma once

#include <cmath>

#include "core/host_device.h"

namespace sn_deploy {

// --- Reduce: the moments of a set of values -----------------------------------------------------------------------

template <typename T>
struct Moments {
  T count;
  T mean;
  T m2;  // sum of (x - mean)^2
};

template <typename T>
SN_HOST_DEVICE Moments<T> no_moments() {
  return {T(0), T(0), T(0)};
}

// Welford's step: the moments with one value more.
template <typename T>
SN_HOST_DEVICE Moments<T> accumulate(Moments<T> moments, T x) {
  const T count = moments.count + T(1);
  const T delta = x - moments.mean;
  const T mean = moments.mean + delta / count;
  return {count, mean, moments.m2 + delta * (x - mean)};
}

// The moments of `count` > 0 values from the sums of d = x - centre and of d^2: the corrected two-pass algorithm where
// centre is the mean but for rounding. The nearer the centre is to the mean, the more digits m2 has.
template <typename T>
SN_HOST_DEVICE Moments<T> moments_from_centred_sums(T count, T centre, T sum, T sum_of_squares) {
  const T offset = sum / count;
  const T m2 = sum_of_squares - offset * sum;
  return {count, centre + offset, m2 < T(0) ? T(0) : m2};  // written so that NaN stays NaN
}

// --- Combine: Chan's formula --------------------------------------------------------------------------------------

template <typename T>
SN_HOST_DEVICE Moments<T> merge(Moments<T> a, Moments<T> b) {
  const T count = a.count + b.count;
  if (!(count > T(0))) return no_moments<T>();
  const T delta = b.mean - a.mean;
  const T share = b.count / count;
  return {count, a.mean + delta * share, a.m2 + b.m2 + delta * delta * (a.count * share)};
}

// The same for a.count == b.count > 0, without a division: what a butterfly over full lanes needs. Symmetric, so both
// partners of an exchange hold the same bits afterwards.
template <typename T>
SN_HOST_DEVICE Moments<T> merge_equal(Moments<T> a, Moments<T> b) {
  const T delta = b.mean - a.mean;
  return {a.count + b.count, (a.mean + b.mean) * T(0.5), (a.m2 + b.m2) + delta * delta * (a.count * T(0.5))};
}

// --- Project: statistics from moments -----------------------------------------------------------------------------

template <typename T>
struct Statistics {
  T mean;
  T var;
};

// IN of one channel. `divisor` is HW - ddof, at least 1.
template <typename T>
SN_HOST_DEVICE Statistics<T> channel_statistics(Moments<T> moments, T divisor) {
  return {moments.mean, moments.m2 / divisor};
}

// LN over some of a sample's channels: the moments of their means and the sum of their variances.
template <typename T>
struct LayerMoments {
  Moments<T> means;
  T var_sum;
};

template <typename T>
SN_HOST_DEVICE LayerMoments<T> no_layer_moments() {
  return {no_moments<T>(), T(0)};
}

template <typename T>
SN_HOST_DEVICE LayerMoments<T> accumulate(LayerMoments<T> layer, Statistics<T> channel) {
  return {accumulate(layer.means, channel.mean), layer.var_sum + channel.var};
}

template <typename T>
SN_HOST_DEVICE LayerMoments<T> merge(LayerMoments<T> a, LayerMoments<T> b) {
  return {merge(a.means, b.means), a.var_sum + b.var_sum};
}

// LN over all channels, from moments that have seen each of them once. The variance of the means is the biased one,
// whatever ddof is.
template <typename T>
SN_HOST_DEVICE Statistics<T> layer_statistics(LayerMoments<T> layer) {
  return {layer.means.mean, (layer.var_sum + layer.means.m2) / layer.means.count};
}

// LN of rank 2, from the moments of the sample's C values. `divisor` is C - ddof, at least 1.
template <typename T>
SN_HOST_DEVICE Statistics<T> row_statistics(Moments<T> moments, T divisor) {
  return {moments.mean, moments.m2 / divisor};
}

// --- Mix: the constants of y = (x - centre) scale + shift ---------------------------------------------------------

template <typename T>
struct MixWeights {
  T mean_in, mean_ln;
  T mean_rest;  // 1 - mean_in - mean_ln
  T var_in, var_ln;
};

// From the operator's attributes. Without IN (rank 2) its weights count for nothing.
template <typename T>
SN_HOST_DEVICE MixWeights<T> mix_weights(float mean_in, float mean_ln, float var_in, float var_ln, bool has_in) {
  const double used_mean_in = has_in ? static_cast<double>(mean_in) : 0.0;
  const double rest = (0.5 - used_mean_in) + (0.5 - static_cast<double>(mean_ln));
  return {static_cast<T>(used_mean_in), static_cast<T>(mean_ln), static_cast<T>(rest),
          static_cast<T>(has_in ? var_in : 0.0F), static_cast<T>(var_ln)};
}

// Whether the input's statistics count at all. Where they don't, any centre will do: mean_offset, which is the mean, is
// the one around which the least is lost.
template <typename T>
SN_HOST_DEVICE bool takes_statistics(const MixWeights<T>& weights) {
  return weights.mean_in != T(0) || weights.mean_ln != T(0) || weights.var_in != T(0) || weights.var_ln != T(0);
}

// The operator's four (C,) inputs at one channel.
template <typename T>
struct ChannelParameters {
  T scale, bias, mean_offset, var_offset;
};

template <typename T>
struct Affine {
  T centre, scale, shift;
};

// The affine map of one channel, around mean_in.
template <typename T>
SN_HOST_DEVICE Affine<T> mix(MixWeights<T> weights, Statistics<T> in, Statistics<T> ln, ChannelParameters<T> channel) {
  using std::sqrt;
  const T var = (weights.var_in * in.var + weights.var_ln * ln.var) + channel.var_offset;
  const T scale = channel.scale / sqrt(var);
  const T above = weights.mean_rest * in.mean - channel.mean_offset;
  const T shift = above + weights.mean_ln * (in.mean - ln.mean);
  return {in.mean, scale, shift * scale + channel.bias};
}

// The affine map of rank 2: the same constants for all channels but the parameters, around mean_ln.
template <typename T>
SN_HOST_DEVICE Affine<T> mix_row(MixWeights<T> weights, Statistics<T> ln, ChannelParameters<T> channel) {
  return mix(weights, Statistics<T>{ln.mean, T(0)}, ln, channel);
}

// The same map around another centre: statistics in double can so be applied around mean_in rounded to float.
template <typename T>
SN_HOST_DEVICE Affine<T> around(Affine<T> affine, T centre) {
  return {centre, affine.scale, affine.shift + (centre - affine.centre) * affine.scale};
}

// --- Apply --------------------------------------------------------------------------------------------------------

// What follows the normalization in the fused operators.
enum class Epilogue : int {
  kNone = 0,     // SwitchNorm:        y
  kRelu = 1,     // SwitchNormRelu:    relu(y)
  kAddRelu = 2,  // SwitchNormAddRelu: relu(y + residual)
};

template <typename T>
SN_HOST_DEVICE T apply(Affine<T> affine, T x) {
  return (x - affine.centre) * affine.scale + affine.shift;
}

// NaN stays NaN, as in ONNX's Relu.
template <typename T>
SN_HOST_DEVICE T relu(T y) {
  return y < T(0) ? T(0) : y;
}

template <Epilogue kEpilogue, typename T>
SN_HOST_DEVICE T finish(T y, T residual) {
  if constexpr (kEpilogue == Epilogue::kAddRelu) {
    return relu(y + residual);
  } else if constexpr (kEpilogue == Epilogue::kRelu) {
    return relu(y);
  } else {
    return y;
  }
}

}  // namespace sn_deploy
