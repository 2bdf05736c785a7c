// Requests to the C interface (sn_deploy/cuda.h), and its answers, for tests.
#pragma once

#include <cstdint>

#include "core/problem.h"
#include "sn_deploy/cuda.h"

namespace sn_deploy::cuda::test {

constexpr std::int32_t as_int(Status status) { return static_cast<std::int32_t>(status); }

// Of float32, in the linear layout.
inline SnCudaProblem problem_of(std::int64_t n, std::int64_t c, std::int64_t hw) {
  SnCudaProblem problem = {};
  problem.batch = n;
  problem.channels = c;
  problem.spatial = hw;
  problem.has_in = 1;
  problem.ddof = 1;
  return problem;
}

// Of float16.
inline SnCudaProblem half_problem_of(std::int64_t n, std::int64_t c, std::int64_t hw) {
  SnCudaProblem problem = problem_of(n, c, hw);
  problem.data_type = 1;
  return problem;
}

}  // namespace sn_deploy::cuda::test
