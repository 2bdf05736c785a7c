// ONNX Runtime's C API, at the oldest version that has all that is needed here, so that every later one loads us.
#pragma once

#include <onnxruntime_c_api.h>

#include <cstdint>

namespace sn_deploy::ort {

// OrtCustomOp::GetMayInplace came with 1.18, everything else before.
constexpr std::uint32_t kApiVersion = 18;

static_assert(ORT_API_VERSION >= kApiVersion, "onnxruntime_c_api.h of ONNX Runtime 1.18 or later is needed");

constexpr const char* kDomain = "sn_deploy";

// The same operators on the blocked layout of ONNX Runtime's own com.microsoft.nchwc.
constexpr const char* kBlockedDomain = "sn_deploy.nchwc";

}  // namespace sn_deploy::ort
