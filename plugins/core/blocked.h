// The blocked layout of ONNX Runtime's convolutions, which it calls NCHWc: (N, C', H, W) in name, C' being C rounded up
// to a multiple of the block B, and (N, C' / B, H, W, B) in memory. B is 8 or 16, by the processor.
#pragma once

#include <cstdint>

#include "core/problem.h"

namespace sn_deploy {

// Of the channels, with their padding; false where it is above int64's range.
inline bool stored_channels(std::int64_t channels, std::int64_t block, std::int64_t* stored) {
  return multiply(divide_up(channels, block), block, stored);
}

// Checks the sizes of a problem that is stored in blocks.
inline Status check_blocked(const Problem& problem, std::int64_t block) {
  if (block != 8 && block != 16) return Status::kBlockSize;
  if (problem.type != DataType::kFloat32) return Status::kBlockedType;
  if (!problem.has_in) return Status::kBlockedShape;
  Problem stored = problem;
  if (problem.channels > 0 && !stored_channels(problem.channels, block, &stored.channels)) return Status::kTooLarge;
  return check(stored);
}

// As `problem_from_shape`, from the shape (N, C', H, W). What C is only the parameters know.
inline Status problem_from_blocked_shape(const std::int64_t* extents, std::int64_t rank,
                                         std::int64_t parameter_channels, std::int64_t block, int ddof,
                                         Problem* problem) {
  if (block != 8 && block != 16) return Status::kBlockSize;
  if (rank != 4) return Status::kBlockedShape;
  if (problem == nullptr || extents == nullptr) return Status::kNullPointer;
  Problem result;
  const Status status = problem_from_shape(extents, rank, extents[1], DataType::kFloat32, ddof, &result);
  if (status != Status::kOk) return status;
  std::int64_t stored = 0;
  if (parameter_channels < 1 || !stored_channels(parameter_channels, block, &stored) || stored != extents[1]) {
    return Status::kBlockedChannels;
  }
  result.channels = parameter_channels;
  *problem = result;
  return Status::kOk;
}

}  // namespace sn_deploy
