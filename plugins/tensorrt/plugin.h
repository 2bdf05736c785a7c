// The plugin: one object for a node, holding its attributes and, once TensorRT chose one, its tactic.
//
// No method calls CUDA but getNbTactics, getValidTactics (which ask the device what it can run) and enqueue. Each
// execution context has a clone of its own, which keeps nothing between calls but the tactic, so contexts may run at
// the same time and calls may be captured into CUDA graphs.
#pragma once

#include <NvInferRuntime.h>

#include "sn_deploy/cuda.h"
#include "tensorrt/fields.h"
#include "tensorrt/op.h"

namespace sn_deploy::tensorrt {

class SwitchNormPlugin final : public nvinfer1::IPluginV3,
                               public nvinfer1::IPluginV3OneCore,
                               public nvinfer1::IPluginV3OneBuildV2,
                               public nvinfer1::IPluginV3OneRuntime {
 public:
  SwitchNormPlugin(const Op& op, const Attributes& attributes) noexcept;
  SwitchNormPlugin(const SwitchNormPlugin& other) noexcept;
  SwitchNormPlugin& operator=(const SwitchNormPlugin&) = delete;
  ~SwitchNormPlugin() override = default;

  // IPluginV3
  nvinfer1::IPluginCapability* getCapabilityInterface(nvinfer1::PluginCapabilityType type) noexcept override;
  nvinfer1::IPluginV3* clone() noexcept override;

  // IPluginV3OneCore
  const char* getPluginName() const noexcept override;
  const char* getPluginVersion() const noexcept override;
  const char* getPluginNamespace() const noexcept override;

  // IPluginV3OneBuild
  std::int32_t configurePlugin(const nvinfer1::DynamicPluginTensorDesc* inputs, std::int32_t input_count,
                               const nvinfer1::DynamicPluginTensorDesc* outputs,
                               std::int32_t output_count) noexcept override;
  std::int32_t getOutputDataTypes(nvinfer1::DataType* output_types, std::int32_t output_count,
                                  const nvinfer1::DataType* input_types,
                                  std::int32_t input_count) const noexcept override;
  std::int32_t getOutputShapes(const nvinfer1::DimsExprs* inputs, std::int32_t input_count,
                               const nvinfer1::DimsExprs* shape_inputs, std::int32_t shape_input_count,
                               nvinfer1::DimsExprs* outputs, std::int32_t output_count,
                               nvinfer1::IExprBuilder& builder) noexcept override;
  bool supportsFormatCombination(std::int32_t position, const nvinfer1::DynamicPluginTensorDesc* tensors,
                                 std::int32_t input_count, std::int32_t output_count) noexcept override;
  std::int32_t getNbOutputs() const noexcept override;
  std::size_t getWorkspaceSize(const nvinfer1::DynamicPluginTensorDesc* inputs, std::int32_t input_count,
                               const nvinfer1::DynamicPluginTensorDesc* outputs,
                               std::int32_t output_count) const noexcept override;
  std::int32_t getNbTactics() noexcept override;
  std::int32_t getValidTactics(std::int32_t* tactics, std::int32_t tactic_count) noexcept override;
  const char* getTimingCacheID() noexcept override;
  const char* getMetadataString() noexcept override;

  // IPluginV3OneRuntime
  std::int32_t setTactic(std::int32_t tactic) noexcept override;
  std::int32_t onShapeChange(const nvinfer1::PluginTensorDesc* inputs, std::int32_t input_count,
                             const nvinfer1::PluginTensorDesc* outputs, std::int32_t output_count) noexcept override;
  std::int32_t enqueue(const nvinfer1::PluginTensorDesc* input_desc, const nvinfer1::PluginTensorDesc* output_desc,
                       const void* const* inputs, void* const* outputs, void* workspace,
                       cudaStream_t stream) noexcept override;
  nvinfer1::IPluginV3* attachToContext(nvinfer1::IPluginResourceContext* context) noexcept override;
  const nvinfer1::PluginFieldCollection* getFieldsToSerialize() noexcept override;

 private:
  std::int32_t launch(const SnCudaProblem& problem, const SnCudaTensors& tensors, void* workspace,
                      cudaStream_t stream) const noexcept;

  const Op& op_;
  const Attributes attributes_;
  SnCudaProblem configured_ = {};  // at the profile's optimum; has no channels before configurePlugin
  SnCudaTactic tactic_ = 0;        // 0: none was chosen

  // What getFieldsToSerialize and getMetadataString point to: they read this object's own attributes.
  nvinfer1::PluginField fields_[kFieldCount];
  nvinfer1::PluginFieldCollection collection_;
  char metadata_[256];
};

}  // namespace sn_deploy::tensorrt
