// Makes plugins from fields: those of an ONNX node, or those of an engine.
#pragma once

#include <NvInferRuntime.h>

#include "tensorrt/fields.h"
#include "tensorrt/op.h"

namespace sn_deploy::tensorrt {

class SwitchNormCreator final : public nvinfer1::IPluginCreatorV3One {
 public:
  explicit SwitchNormCreator(const Op& op) noexcept;
  SwitchNormCreator(const SwitchNormCreator&) = delete;
  SwitchNormCreator& operator=(const SwitchNormCreator&) = delete;

  // Null, with the reason in the log, for fields that `parse` refuses.
  nvinfer1::IPluginV3* createPlugin(const char* name, const nvinfer1::PluginFieldCollection* fields,
                                    nvinfer1::TensorRTPhase phase) noexcept override;
  const nvinfer1::PluginFieldCollection* getFieldNames() noexcept override;
  const char* getPluginName() const noexcept override;
  const char* getPluginVersion() const noexcept override;
  const char* getPluginNamespace() const noexcept override;

 private:
  const Op& op_;
  nvinfer1::PluginField fields_[kFieldCount];
  nvinfer1::PluginFieldCollection collection_;
};

}  // namespace sn_deploy::tensorrt
