// Tensors for the kernels, and the operator in float64, written on its own.
#pragma once

#include <cstdint>
#include <cstring>
#include <string>
#include <vector>

#include "cuda/prepare.h"

namespace sn_deploy::cuda::test {

// What is computed, and how.
struct Case {
  std::int64_t batch = 2, channels = 16, spatial = 24;
  unsigned first_sample = 0;  // of those that may be drawn: the batch has this one and those behind it
  DataType type = DataType::kFloat32;
  Layout layout = Layout::kLinear;
  std::int64_t padded_to = 1;  // channels-last: C is stored padded to a multiple of this
  Epilogue epilogue = Epilogue::kNone;
  bool has_in = true;
  int ddof = 1;
  bool aligned = true;  // else all tensors begin behind a multiple of 16 bytes
  enum class Y { kElsewhere, kInX, kInResidual } y = Y::kElsewhere;
  double mean = 0.5, deviation = 2.0;
  double first_channel = 0.0;  // how far its mean is off the others'
  double first_value = 0.0;    // how far each channel's is off the others
  Tactic tactic = Tactic::kOneBlock;
  std::int64_t blocks = 1;
  DeviceLimits limits = {8, 100 * 1024, 16, true};

  std::int64_t stored_channels() const;
  std::string name() const;
};

// A buffer whose end is the end of its allocation, so that the address sanitizer sees what runs over.
class Buffer {
 public:
  Buffer(std::int64_t bytes, bool aligned);
  ~Buffer();
  Buffer(const Buffer&) = delete;
  Buffer& operator=(const Buffer&) = delete;
  void* get() const { return memory_ + shift_; }

 private:
  unsigned char* memory_;
  std::size_t shift_;
};

// The operator as its definition reads (sn_deploy/folded.py), with plain sums: of X and the residual, (N, C, HW).
std::vector<double> oracle_of(const SnCudaProblem& problem, const SnCudaTensors& parameters,
                              const std::vector<double>& x, const std::vector<double>& residual);

class Sample {
 public:
  explicit Sample(const Case& c);

  Request request() const;
  const SnCudaProblem& problem() const { return problem_; }
  SnCudaTensors tensors() const;
  std::int64_t bytes() const { return elements_ * bytes_of(case_.type); }  // of X, Y and the residual each

  // Runs the plan; Status of the planning. `spoil` may change a launch before it runs.
  Status run(void (*spoil)(Launch&) = nullptr);
  Plan plan() const { return plan_; }

  // The largest |Y - oracle| / (1 + |oracle|); infinite for a NaN, or a padding that isn't 0.
  double error() const;
  std::vector<unsigned char> bytes_of_y() const;

  // A NaN into X, behind the oracle's back.
  void put_nan(std::int64_t n, std::int64_t c, std::int64_t p);
  bool is_nan(std::int64_t n, std::int64_t c, std::int64_t p) const;  // whether Y is one there

 private:
  void* y() const;
  std::int64_t offset(std::int64_t n, std::int64_t c, std::int64_t p) const;

  Case case_;
  SnCudaProblem problem_;
  std::int64_t elements_;
  std::vector<double> x_, residual_;  // (N, C, HW), as they were rounded to the type
  std::vector<float> scale_, bias_, mean_offset_, var_offset_;
  Buffer x_memory_, residual_memory_, y_memory_;
  Plan plan_;
};

}  // namespace sn_deploy::cuda::test
