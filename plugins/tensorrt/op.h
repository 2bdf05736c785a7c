// The three operators: what TensorRT calls them, and what they take.
#pragma once

#include <cstdint>

#include "core/switch_norm.h"

namespace sn_deploy::tensorrt {

struct Op {
  const char* name;
  Epilogue epilogue;
  // Names this op's kernels in timing caches. The number counts releases in which their speed changed.
  const char* timing_cache_id;

  // X, the four parameters, and the residual.
  std::int32_t inputs() const { return epilogue == Epilogue::kAddRelu ? 6 : 5; }
};

inline constexpr Op kOps[] = {
    {"SwitchNorm", Epilogue::kNone, "sn_deploy.SwitchNorm.4"},
    {"SwitchNormRelu", Epilogue::kRelu, "sn_deploy.SwitchNormRelu.4"},
    {"SwitchNormAddRelu", Epilogue::kAddRelu, "sn_deploy.SwitchNormAddRelu.4"},
};
inline constexpr std::int32_t kOpCount = 3;

inline constexpr const char* kVersion = "1";
// An exported file's nodes say plugin_namespace = "".
inline constexpr const char* kNamespace = "";

// Positions among a node's inputs.
inline constexpr std::int32_t kX = 0;
inline constexpr std::int32_t kFirstParameter = 1;
inline constexpr std::int32_t kLastParameter = 4;
inline constexpr std::int32_t kResidual = 5;

}  // namespace sn_deploy::tensorrt
