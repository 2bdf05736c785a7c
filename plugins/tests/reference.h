// The operator in long double, from the published equations, for tests of kernels.
#pragma once

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <vector>

#include "core/problem.h"
#include "core/switch_norm.h"

namespace sn_deploy::testing {

struct Layer {
  float mean_in = 0.3F, mean_ln = 0.5F, var_in = 0.2F, var_ln = 0.6F;
  std::vector<float> scale, bias, mean_offset, var_offset;
};

// The statistics of count values of which `at(i)` is one.
template <typename At>
Statistics<long double> statistics(std::int64_t count, std::int64_t divisor, At at) {
  long double mean = 0;
  for (std::int64_t i = 0; i < count; ++i) mean += at(i);
  mean /= static_cast<long double>(count);
  long double m2 = 0;
  for (std::int64_t i = 0; i < count; ++i) m2 += (at(i) - mean) * (at(i) - mean);
  return {mean, m2 / static_cast<long double>(divisor)};
}

// y = epilogue((x - mean) / sqrt(var) * scale + bias), x and residual (N, C, HW). `residual` may be empty.
inline std::vector<double> reference(const Problem& problem, const Layer& layer, Epilogue epilogue,
                                     const std::vector<float>& x, const std::vector<float>& residual) {
  using Real = long double;
  const std::int64_t channels = problem.channels;
  const std::int64_t spatial = problem.spatial;
  std::vector<double> y(x.size());
  for (std::int64_t n = 0; n < problem.batch; ++n) {
    const float* sample = x.data() + n * channels * spatial;
    std::vector<Statistics<Real>> in(static_cast<std::size_t>(channels), Statistics<Real>{0, 0});
    Statistics<Real> ln{0, 0};
    if (problem.has_in) {
      for (std::int64_t c = 0; c < channels; ++c) {
        const auto at = [&](std::int64_t i) { return static_cast<Real>(sample[c * spatial + i]); };
        in[static_cast<std::size_t>(c)] = statistics(spatial, spatial - problem.ddof, at);
      }
      ln = statistics(channels, channels, [&](std::int64_t c) { return in[static_cast<std::size_t>(c)].mean; });
      for (const Statistics<Real>& channel : in) ln.var += channel.var / static_cast<Real>(channels);
    } else {
      const auto at = [&](std::int64_t c) { return static_cast<Real>(sample[c]); };
      ln = statistics(channels, channels - problem.ddof, at);
    }
    for (std::int64_t c = 0; c < channels; ++c) {
      const auto i = static_cast<std::size_t>(c);
      const Real mean = layer.mean_in * in[i].mean + layer.mean_ln * ln.mean + layer.mean_offset[i];
      const Real deviation = std::sqrt(layer.var_in * in[i].var + layer.var_ln * ln.var + layer.var_offset[i]);
      for (std::int64_t p = 0; p < spatial; ++p) {
        const auto at = static_cast<std::size_t>((n * channels + c) * spatial + p);
        Real value = (x[at] - mean) / deviation * layer.scale[i] + layer.bias[i];
        if (epilogue == Epilogue::kAddRelu) value += residual[at];
        if (epilogue != Epilogue::kNone && value < 0) value = 0;
        y[at] = static_cast<double>(value);
      }
    }
  }
  return y;
}

}  // namespace sn_deploy::testing
