// Tensors for a convolution with its SN layer, and what they give in float64.
#pragma once

#include <cmath>
#include <cstdint>
#include <limits>
#include <random>
#include <string>
#include <vector>

#include "cuda/convolution/launch.h"
#include "cuda/convolution/plan.h"
#include "cuda/kernels/elements.h"
#include "cuda/tests/sample.h"

namespace sn_deploy::cuda::test {

struct ConvolutionCase {
  std::int64_t batch = 1, depth = 64, channels = 64, height = 5, width = 7, stride = 1;
  Epilogue epilogue = Epilogue::kAddRelu;
  ConvolutionTactic tactic;
  double x_mean = 0.0;  // against a deviation of 1

  std::string name() const {
    return "(" + std::to_string(batch) + ", " + std::to_string(depth) + " to " + std::to_string(channels) + ", " +
           std::to_string(height) + " x " + std::to_string(width) + " by " + std::to_string(stride) + "), " +
           (tactic.product == Product::kKept ? "kept" : "streamed") + ", " + std::to_string(tactic.parts) + " parts, " +
           std::to_string(tactic.sides) + " sides, " + std::to_string(tactic.warps) + " warps, " +
           std::to_string(tactic.tiles) + " tiles, epilogue " + std::to_string(static_cast<int>(epilogue));
  }
};

// Half a unit in the last place of float16 for the rounding of Y, and as much again for all that was computed in
// float32.
inline constexpr double kTolerance = 1e-3;

class Expansion {
 public:
  explicit Expansion(const ConvolutionCase& c)
      : case_(c),
        y_height_((c.height + c.stride - 1) / c.stride),
        y_width_((c.width + c.stride - 1) / c.stride),
        x_(c.batch * c.height * c.width * c.depth * 2, true),
        filter_(c.channels * c.depth * 2, true),
        residual_(elements() * 2, true),
        y_(elements() * 2, true) {
    std::mt19937 random(3), of_filter(4), of_residual(5);
    std::normal_distribution<double> normal;
    std::uniform_real_distribution<double> uniform(-1.0, 1.0);
    for (std::int64_t i = 0; i < c.batch * c.height * c.width * c.depth; ++i) put(x_, i, c.x_mean + normal(random));
    const double size = 1.0 / std::sqrt(static_cast<double>(c.depth));
    for (std::int64_t i = 0; i < c.channels * c.depth; ++i) put(filter_, i, size * normal(of_filter));
    for (std::int64_t i = 0; i < elements(); ++i) put(residual_, i, normal(of_residual));
    for (std::int64_t i = 0; i < c.channels; ++i) {
      scale_.push_back(static_cast<float>(2.0 * uniform(of_filter)));
      bias_.push_back(static_cast<float>(uniform(of_filter)));
      mean_offset_.push_back(static_cast<float>(0.5 * uniform(of_filter)));
      var_offset_.push_back(static_cast<float>(0.5 + 0.4 * uniform(of_filter)));
    }
  }

  const void* filter() const { return filter_.get(); }
  void* y() const { return y_.get(); }

  std::int64_t elements() const { return case_.batch * y_height_ * y_width_ * case_.channels; }

  SnCudaProblem problem() const {
    SnCudaProblem problem = {};
    problem.batch = case_.batch;
    problem.channels = problem.stored_channels = case_.channels;
    problem.spatial = y_height_ * y_width_;
    problem.has_in = problem.ddof = problem.layout = problem.data_type = 1;
    problem.epilogue = static_cast<std::int32_t>(case_.epilogue);
    problem.mean_in = 0.5F;
    problem.mean_ln = 0.3F;
    problem.var_in = 0.25F;
    problem.var_ln = 0.6F;
    return problem;
  }

  SnCudaTensors tensors() const {
    return {x_.get(), scale_.data(), bias_.data(), mean_offset_.data(), var_offset_.data(), residual_.get(), y_.get()};
  }

  Status run() const {
    const SnCudaProblem problem = this->problem();
    const SnCudaTensors tensors = this->tensors();
    const SnConvolution convolution = {case_.depth, case_.stride, case_.height, case_.width};
    const ConvolutionTactic& t = case_.tactic;
    const SnConvolutionTactic tactic = {t.product == Product::kKept ? 1 : 0, t.parts, t.sides, t.warps, t.tiles};
    return static_cast<Status>(
        sn_convolution_launch(&problem, &tensors, filter_.get(), &convolution, &tactic, nullptr));
  }

  // The largest |Y - oracle| / (1 + |oracle|); infinite for a NaN.
  double error() const {
    const ConvolutionCase& c = case_;
    const std::int64_t positions = y_height_ * y_width_;
    std::vector<double> x(static_cast<std::size_t>(elements())), residual(x.size());
    const auto index = [&](std::int64_t n, std::int64_t k, std::int64_t p) {
      return static_cast<std::size_t>((n * c.channels + k) * positions + p);
    };
    for (std::int64_t n = 0; n < c.batch; ++n) {
      for (std::int64_t p = 0; p < positions; ++p) {
        const std::int64_t row = p / y_width_ * c.stride * c.width + p % y_width_ * c.stride;
        for (std::int64_t k = 0; k < c.channels; ++k) {
          double sum = 0.0;
          for (std::int64_t i = 0; i < c.depth; ++i) {
            sum += get(x_, (n * c.height * c.width + row) * c.depth + i) * get(filter_, k * c.depth + i);
          }
          x[index(n, k, p)] = sum;
          residual[index(n, k, p)] = get(residual_, (n * positions + p) * c.channels + k);
        }
      }
    }
    const std::vector<double> wanted = oracle_of(problem(), tensors(), x, residual);
    double largest = 0.0;
    for (std::int64_t n = 0; n < c.batch; ++n) {
      for (std::int64_t p = 0; p < positions; ++p) {
        for (std::int64_t k = 0; k < c.channels; ++k) {
          const double expected = wanted[index(n, k, p)];
          const double off =
              std::abs(get(y_, (n * positions + p) * c.channels + k) - expected) / (1.0 + std::abs(expected));
          if (!(off <= largest)) largest = std::isnan(off) ? std::numeric_limits<double>::infinity() : off;
        }
      }
    }
    return largest;
  }

  std::vector<unsigned char> bytes_of_y() const {
    const auto* bytes = static_cast<const unsigned char*>(y_.get());
    return {bytes, bytes + elements() * 2};
  }

 private:
  static void put(const Buffer& buffer, std::int64_t i, double value) {
    static_cast<__half*>(buffer.get())[i] = from_float<__half>(static_cast<float>(value));
  }
  static double get(const Buffer& buffer, std::int64_t i) {
    return static_cast<double>(to_float(static_cast<const __half*>(buffer.get())[i]));
  }

  ConvolutionCase case_;
  std::int64_t y_height_, y_width_;
  Buffer x_, filter_, residual_, y_;
  std::vector<float> scale_, bias_, mean_offset_, var_offset_;
};

}  // namespace sn_deploy::cuda::test
