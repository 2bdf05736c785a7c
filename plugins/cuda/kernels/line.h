// y = finish(apply(x)) on vectors, as few instructions as the type of X allows.
#pragma once

#include "core/switch_norm.h"
#include "cuda/kernels/elements.h"

namespace sn_deploy::cuda {

// A channel's affine map. Values of half types have so few digits that float32 loses none of them without a centre:
// where the mean is so large against the deviation that it would, X itself has no digits left.
template <typename T>
struct Line {
  float scale, shift;
};
template <>
struct Line<float> {
  float centre, scale, shift;
};

template <typename T>
SN_HOST_DEVICE Line<T> line_of(Affine<float> affine) {
  if constexpr (std::is_same_v<T, float>) {
    return {affine.centre, affine.scale, affine.shift};
  } else {
    return {affine.scale, affine.shift - affine.centre * affine.scale};
  }
}

SN_HOST_DEVICE float at(const Line<float>& line, float x) { return (x - line.centre) * line.scale + line.shift; }
template <typename T>
SN_HOST_DEVICE float at(const Line<T>& line, T x) {
  return to_float(x) * line.scale + line.shift;
}

template <Epilogue kEpilogue, typename T, int V>
SN_HOST_DEVICE Vector<T, V> finished(const Line<T> (&lines)[V], const Vector<T, V>& x, const Vector<T, V>& added) {
  float values[V];
  SN_UNROLL
  for (int k = 0; k < V; ++k) {
    values[k] = at(lines[k], x.values[k]);
    if constexpr (kEpilogue == Epilogue::kAddRelu) values[k] += to_float(added.values[k]);
  }
  SN_UNROLL
  for (int k = 0; k < V; ++k) values[k] = kEpilogue == Epilogue::kNone ? values[k] : relu_of(values[k]);
  return rounded<T>(values);
}

}  // namespace sn_deploy::cuda
