// A tactic as one number (sn_deploy/cuda.h), and back.
#pragma once

#include <cstdint>

#include "core/plan.h"

namespace sn_deploy::cuda {

struct TacticCode {
  Tactic tactic;
  std::int64_t blocks;  // a sample, or how far a queue is ahead; 1 where the tactic doesn't say
};

inline std::int32_t encode(const Plan& plan) {
  const bool several = plan.tactic == Tactic::kCluster || plan.tactic == Tactic::kCooperative;
  const std::int64_t blocks = is_queue(plan.tactic) ? plan.ahead : several ? plan.blocks_per_sample : 0;
  return static_cast<std::int32_t>(plan.tactic) + static_cast<std::int32_t>(blocks * 256);
}

// False for a number that `encode` doesn't give. Blocks are a power of two, so that the workspace of all of them is
// that of a few.
inline bool decode(std::int32_t code, TacticCode* result) {
  if (code <= 0) return false;
  const std::int32_t blocks = code / 256;
  const std::int32_t tactic = code % 256;
  const bool power = blocks >= 2 && blocks <= kMaxBlocksPerSample && (blocks & (blocks - 1)) == 0;
  switch (static_cast<Tactic>(tactic)) {
    case Tactic::kOneBlock:
    case Tactic::kTwoKernels:
      *result = {static_cast<Tactic>(tactic), 1};
      return blocks == 0;
    case Tactic::kCluster:
    case Tactic::kCooperative:
    case Tactic::kQueue:
    case Tactic::kLargeQueue:
      *result = {static_cast<Tactic>(tactic), blocks};
      return power;
  }
  return false;
}

}  // namespace sn_deploy::cuda
