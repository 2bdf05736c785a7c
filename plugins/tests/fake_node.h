// One node of an operator over the fake ONNX Runtime, from its creation to its destruction.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <string>
#include <vector>

#include "onnxruntime/operators.h"
#include "tests/fake_onnxruntime.h"

namespace sn_deploy::testing {

using Extents = std::vector<std::int64_t>;

inline constexpr const char* kNames[] = {"SwitchNorm", "SwitchNormRelu", "SwitchNormAddRelu"};

// The message of a status, which is released; "" of none.
inline std::string message_of(const Fake& fake, OrtStatus* status) {
  if (status == nullptr) return "";
  std::string message = status->message;
  fake.api.ReleaseStatus(status);
  return message;
}

// Float32: value, value + 1, … value + 4, and again.
inline OrtValue tensor(const Extents& extents, float value) {
  std::size_t count = 1;
  for (const std::int64_t extent : extents) count *= static_cast<std::size_t>(extent);
  OrtValue made{extents, std::vector<std::uint8_t>(count * sizeof(float))};
  for (std::size_t i = 0; i < count; ++i) {
    const float own = value + static_cast<float>(i % 5);
    std::memcpy(made.data.data() + i * sizeof(float), &own, sizeof own);
  }
  return made;
}

// With attributes and inputs that are right, to be spoiled; the inputs are of float32 whatever the node is of.
class FakeNode {
 public:
  FakeNode(const ort::Provider& provider, const char* name, DataType type = DataType::kFloat32) {
    const int count = make_operators(&fake.api, provider, operators_);
    for (int i = 0; i < count; ++i) {
      if (std::string(operators_[i].name) == name && operators_[i].type == type) op_ = &operators_[i];
    }
    info.name = "layer1.sn";
    info.floats = {{"mean_in", 0.3F}, {"mean_ln", 0.3F}, {"var_in", 0.3F}, {"var_ln", 0.3F}};
    info.ints = {{"ddof", 1}};
    context.inputs = {tensor({2, 3, 4}, 0.0F), tensor({3}, 1.0F), tensor({3}, 0.0F),
                      tensor({3}, 0.0F),       tensor({3}, 1.0F), tensor({2, 3, 4}, 1.0F)};
  }

  std::string create() { return message_of(fake, op_->CreateKernelV2(op_, &fake.api, &info, &kernel_)); }
  std::string compute() { return message_of(fake, op_->KernelComputeV2(kernel_, &context)); }
  void destroy() {
    if (kernel_ != nullptr) op_->KernelDestroy(kernel_);
    kernel_ = nullptr;
  }
  // All of it: the first message.
  std::string run() {
    std::string message = create();
    if (message.empty()) message = compute();
    destroy();
    return message;
  }
  const ort::Operator& op() const { return *op_; }
  // The version of ONNX Runtime that registered it.
  void set_runtime(const char* version) {
    for (ort::Operator& each : operators_) each.runtime = version;
  }

  Fake fake;
  OrtKernelInfo info;
  OrtKernelContext context;

 private:
  ort::Operator operators_[ort::kOperators];
  const ort::Operator* op_ = nullptr;
  void* kernel_ = nullptr;
};

}  // namespace sn_deploy::testing
