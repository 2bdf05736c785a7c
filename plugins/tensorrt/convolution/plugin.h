// The trial of a convolution with its SN layer (cuda/convolution) as a plugin, so that engines can be measured with it.
// In a library of its own, beside the product's; see ../plugin.h for how the methods stand to each other.
//
// Inputs: X (N, K, H, W), scale, bias, mean_offset, var_offset, (C) each, the filter (C, K, 1, 1), and the residual,
// like Y (N, C, ⌈H / stride⌉, ⌈W / stride⌉). Half types in kHWC8 alone, and the filter linear.
#pragma once

#include <NvInferRuntime.h>

#include "cuda/convolution/launch.h"
#include "tensorrt/fields.h"

namespace sn_deploy::tensorrt {

struct ConvolutionOp {
  const char* name;
  bool adds;  // the residual, and a ReLU

  std::int32_t inputs() const { return adds ? 7 : 6; }
};

inline constexpr ConvolutionOp kConvolutionOps[] = {{"SwitchNormConvolution", false},
                                                    {"SwitchNormConvolutionAddRelu", true}};
inline constexpr std::int32_t kConvolutionOpCount = 2;

struct ConvolutionAttributes {
  Attributes norm;
  std::int32_t stride = 1;
};

inline constexpr std::int32_t kConvolutionFieldCount = kFieldCount + 1;

// As `describe` and `parse` of fields.h, with the stride behind them.
void describe(const ConvolutionAttributes& attributes,
              nvinfer1::PluginField (&fields)[kConvolutionFieldCount]) noexcept;
bool parse(const char* op, const nvinfer1::PluginFieldCollection* collection,
           ConvolutionAttributes* attributes) noexcept;

class ConvolutionPlugin final : public nvinfer1::IPluginV3,
                                public nvinfer1::IPluginV3OneCore,
                                public nvinfer1::IPluginV3OneBuildV2,
                                public nvinfer1::IPluginV3OneRuntime {
 public:
  ConvolutionPlugin(const ConvolutionOp& op, const ConvolutionAttributes& attributes) noexcept;
  ConvolutionPlugin(const ConvolutionPlugin& other) noexcept;
  ConvolutionPlugin& operator=(const ConvolutionPlugin&) = delete;
  ~ConvolutionPlugin() override = default;

  nvinfer1::IPluginCapability* getCapabilityInterface(nvinfer1::PluginCapabilityType type) noexcept override;
  nvinfer1::IPluginV3* clone() noexcept override;

  const char* getPluginName() const noexcept override;
  const char* getPluginVersion() const noexcept override;
  const char* getPluginNamespace() const noexcept override;

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
  std::int32_t getNbTactics() noexcept override;
  std::int32_t getValidTactics(std::int32_t* tactics, std::int32_t tactic_count) noexcept override;
  const char* getTimingCacheID() noexcept override;

  std::int32_t setTactic(std::int32_t tactic) noexcept override;
  std::int32_t onShapeChange(const nvinfer1::PluginTensorDesc* inputs, std::int32_t input_count,
                             const nvinfer1::PluginTensorDesc* outputs, std::int32_t output_count) noexcept override;
  std::int32_t enqueue(const nvinfer1::PluginTensorDesc* input_desc, const nvinfer1::PluginTensorDesc* output_desc,
                       const void* const* inputs, void* const* outputs, void* workspace,
                       cudaStream_t stream) noexcept override;
  nvinfer1::IPluginV3* attachToContext(nvinfer1::IPluginResourceContext* context) noexcept override;
  const nvinfer1::PluginFieldCollection* getFieldsToSerialize() noexcept override;

 private:
  std::int32_t launch(const SnCudaProblem& problem, const SnConvolution& convolution, const SnCudaTensors& tensors,
                      const void* filter, cudaStream_t stream) const noexcept;

  const ConvolutionOp& op_;
  const ConvolutionAttributes attributes_;
  SnCudaProblem configured_ = {};
  SnConvolution convolution_ = {};
  std::int32_t tactic_ = 0;  // 0: none was chosen
  nvinfer1::PluginField fields_[kConvolutionFieldCount];
  nvinfer1::PluginFieldCollection collection_;
};

}  // namespace sn_deploy::tensorrt
