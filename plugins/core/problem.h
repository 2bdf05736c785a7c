// What a SwitchNorm kernel is asked to do, and the one check of it that all borders share.
#pragma once

#include <cmath>
#include <cstdint>
#include <limits>

namespace sn_deploy {

// Why a request has no answer. The values are part of the C interfaces: add at the end.
enum class Status : std::int32_t {
  kOk = 0,
  kNullPointer = 1,
  kRank = 2,
  kNegativeExtent = 3,
  kNoChannels = 4,
  kChannelMismatch = 5,
  kEmptySpatial = 6,
  kTooFewValues = 7,
  kDdof = 8,
  kWeightNotFinite = 9,
  kDataType = 10,
  kTooLarge = 11,
  kResidualMismatch = 12,
  kMisaligned = 13,
  kWorkspace = 14,
  kTactic = 15,
  kDevice = 16,
  kArgument = 17,
  kThreads = 18,
  kBlockSize = 19,
  kBlockedShape = 20,
  kBlockedChannels = 21,
  kBlockedType = 22,
};

inline const char* reason(Status status) {
  switch (status) {
    case Status::kOk:
      return "ok";
    case Status::kNullPointer:
      return "a pointer to a tensor is null";
    case Status::kRank:
      return "X has a rank below 2; expected (N, C, *spatial)";
    case Status::kNegativeExtent:
      return "X has a negative extent";
    case Status::kNoChannels:
      return "X has no channels";
    case Status::kChannelMismatch:
      return "scale, bias, mean_offset and var_offset must have shape (C), C being X's second extent";
    case Status::kEmptySpatial:
      return "X has an empty spatial extent, over which no statistics exist";
    case Status::kTooFewValues:
      return "too few values for the variance: HW (for rank 2: C) must be above ddof";
    case Status::kDdof:
      return "ddof must be 0 or 1";
    case Status::kWeightNotFinite:
      return "mean_in, mean_ln, var_in and var_ln must be finite";
    case Status::kDataType:
      return "X must be float32, float16 or bfloat16, and Y and the residual like X; the parameters must be float32";
    case Status::kTooLarge:
      return "the sizes overflow 64 bits";
    case Status::kResidualMismatch:
      return "the residual must have X's shape";
    case Status::kMisaligned:
      return "a tensor's address is no multiple of its element size";
    case Status::kWorkspace:
      return "the workspace is missing or too small";
    case Status::kTactic:
      return "this tactic can't run this problem on this device";
    case Status::kDevice:
      return "the device reported an error";
    case Status::kArgument:
      return "a layout, an epilogue or a flag has a value that means nothing";
    case Status::kThreads:
      return "the work could not be given to the threads";
    case Status::kBlockSize:
      return "block_size must be 8 or 16";
    case Status::kBlockedShape:
      return "X has another rank than 4; blocked it is (N, C rounded up to whole blocks, H, W)";
    case Status::kBlockedChannels:
      return "X's second extent must be C, the length of the parameters, rounded up to a multiple of block_size";
    case Status::kBlockedType:
      return "blocked, X must be float32";
  }
  return "unknown status";
}

enum class DataType : std::int32_t { kFloat32 = 0, kFloat16 = 1, kBfloat16 = 2 };

// 0 for a value that is no DataType.
inline std::int64_t bytes_of(DataType type) {
  switch (type) {
    case DataType::kFloat32:
      return 4;
    case DataType::kFloat16:
    case DataType::kBfloat16:
      return 2;
  }
  return 0;
}

// The sizes of X. Rank 2 has no IN part: `has_in` is false and `spatial` 1.
struct Problem {
  std::int64_t batch = 0;     // N, may be 0
  std::int64_t channels = 0;  // C
  std::int64_t spatial = 0;   // HW, the product of all spatial extents
  bool has_in = true;
  int ddof = 1;
  DataType type = DataType::kFloat32;

  // How many values one variance is over.
  std::int64_t count() const { return has_in ? spatial : channels; }
};

// a * b for a, b >= 0; false where it is above int64's range.
inline bool multiply(std::int64_t a, std::int64_t b, std::int64_t* product) {
  if (a != 0 && b > std::numeric_limits<std::int64_t>::max() / a) return false;
  *product = a * b;
  return true;
}

inline bool add(std::int64_t a, std::int64_t b, std::int64_t* sum) {
  if (b > std::numeric_limits<std::int64_t>::max() - a) return false;
  *sum = a + b;
  return true;
}

inline std::int64_t divide_up(std::int64_t a, std::int64_t b) { return a / b + (a % b != 0 ? 1 : 0); }

// Checks the sizes of a problem. N = 0 is no error: it gives an empty result.
inline Status check(const Problem& problem) {
  if (problem.ddof != 0 && problem.ddof != 1) return Status::kDdof;
  if (bytes_of(problem.type) == 0) return Status::kDataType;
  if (problem.batch < 0 || problem.channels < 0 || problem.spatial < 0) return Status::kNegativeExtent;
  if (problem.channels == 0) return Status::kNoChannels;
  if (problem.spatial == 0) return Status::kEmptySpatial;
  if (!problem.has_in && problem.spatial != 1) return Status::kRank;
  if (problem.count() - problem.ddof < 1) return Status::kTooFewValues;
  std::int64_t sample = 0;
  std::int64_t bytes = 0;
  if (!multiply(problem.channels, problem.spatial, &sample) || !multiply(sample, bytes_of(problem.type), &bytes) ||
      !multiply(bytes, problem.batch, &bytes)) {
    return Status::kTooLarge;
  }
  return Status::kOk;
}

// From X's shape, the length of the four parameters, and the attributes. `problem` is set only with kOk.
inline Status problem_from_shape(const std::int64_t* extents, std::int64_t rank, std::int64_t parameter_channels,
                                 DataType type, int ddof, Problem* problem) {
  if (problem == nullptr || (extents == nullptr && rank > 0)) return Status::kNullPointer;
  if (rank < 2) return Status::kRank;
  Problem result;
  result.batch = extents[0];
  result.channels = extents[1];
  result.has_in = rank > 2;
  result.ddof = ddof;
  result.type = type;
  for (std::int64_t axis = 0; axis < rank; ++axis) {
    if (extents[axis] < 0) return Status::kNegativeExtent;
  }
  bool empty = false;  // before the product: 0 times anything is no overflow
  for (std::int64_t axis = 2; axis < rank; ++axis) empty = empty || extents[axis] == 0;
  result.spatial = empty ? 0 : 1;
  for (std::int64_t axis = 2; axis < rank && !empty; ++axis) {
    if (!multiply(result.spatial, extents[axis], &result.spatial)) return Status::kTooLarge;
  }
  if (result.channels != 0 && result.channels != parameter_channels) return Status::kChannelMismatch;
  const Status status = check(result);
  if (status == Status::kOk) *problem = result;
  return status;
}

inline Status check_weights(float mean_in, float mean_ln, float var_in, float var_ln) {
  const bool finite =
      std::isfinite(mean_in) && std::isfinite(mean_ln) && std::isfinite(var_in) && std::isfinite(var_ln);
  return finite ? Status::kOk : Status::kWeightNotFinite;
}

}  // namespace sn_deploy
