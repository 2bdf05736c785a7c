// As much of a network definition as TensorRT's ONNX parser needs for a graph of plugins, convolutions, Q/DQ pairs,
// constants, casts and what computes shapes (shape_layers.h): what the builder would make of them needs a GPU, what the
// parser makes of a file doesn't.
#pragma once

#include <NvInfer.h>

#include <deque>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "stubs.h"  // made by generate_stubs.py

namespace sn_deploy::tensorrt::test {

using nvinfer1::apiv::StubVBuilder;
using nvinfer1::apiv::StubVCastLayer;
using nvinfer1::apiv::StubVConstantLayer;
using nvinfer1::apiv::StubVConvolutionLayer;
using nvinfer1::apiv::StubVDequantizeLayer;
using nvinfer1::apiv::StubVLayer;
using nvinfer1::apiv::StubVNetworkDefinition;
using nvinfer1::apiv::StubVPluginV3Layer;
using nvinfer1::apiv::StubVQuantizeLayer;
using nvinfer1::apiv::StubVTensor;

class FakeTensor final : public nvinfer1::ITensor, private StubVTensor {
 public:
  FakeTensor(std::string name, nvinfer1::DataType type, nvinfer1::Dims dims, bool input)
      : name_(std::move(name)), type_(type), dims_(dims), input_(input) {
    mImpl = this;
  }
  ~FakeTensor() noexcept override = default;
  const std::string& name() const { return name_; }
  nvinfer1::DataType type() const { return type_; }
  const nvinfer1::Dims& dims() const { return dims_; }
  void become(nvinfer1::DataType type) { type_ = type; }
  bool output = false;
  std::vector<std::int64_t> values;  // of a constant of integers, such as the axes of a layer

 private:
  void setName(const char* name) noexcept override { name_ = name; }
  const char* getName() const noexcept override { return name_.c_str(); }
  void setDimensions(const nvinfer1::Dims& dims) noexcept override { dims_ = dims; }
  nvinfer1::Dims getDimensions() const noexcept override { return dims_; }
  nvinfer1::DataType getType() const noexcept override { return type_; }
  bool isNetworkInput() const noexcept override { return input_; }
  bool isNetworkOutput() const noexcept override { return output; }
  bool isExecutionTensor() const noexcept override { return true; }

  std::string name_;
  nvinfer1::DataType type_;
  nvinfer1::Dims dims_;
  bool input_;
};

// What all layers share.
class FakeLayer final : public StubVLayer {
 public:
  explicit FakeLayer(nvinfer1::LayerType type) : type_(type) {}
  std::vector<nvinfer1::ITensor*> inputs, outputs;
  std::string name;
  std::function<void()> changed;  // for a layer whose output depends on what it is given later

 private:
  nvinfer1::LayerType getType() const noexcept override { return type_; }
  void setName(const char* text) noexcept override { name = text; }
  const char* getName() const noexcept override { return name.c_str(); }
  std::int32_t getNbInputs() const noexcept override { return static_cast<std::int32_t>(inputs.size()); }
  nvinfer1::ITensor* getInput(std::int32_t i) const noexcept override { return inputs[static_cast<std::size_t>(i)]; }
  void setInput(std::int32_t i, nvinfer1::ITensor& tensor) noexcept override {
    const auto place = static_cast<std::size_t>(i);
    if (place >= inputs.size()) inputs.resize(place + 1);
    inputs[place] = &tensor;
    if (changed) changed();
  }
  std::int32_t getNbOutputs() const noexcept override { return static_cast<std::int32_t>(outputs.size()); }
  nvinfer1::ITensor* getOutput(std::int32_t i) const noexcept override {
    return static_cast<std::size_t>(i) < outputs.size() ? outputs[static_cast<std::size_t>(i)] : nullptr;
  }
  void setMetadata(const char* text) noexcept override { metadata_ = text; }
  const char* getMetadata() const noexcept override { return metadata_.c_str(); }
  nvinfer1::LayerType type_;
  std::string metadata_;
};

class FakePluginLayer final : public nvinfer1::IPluginV3Layer, private StubVPluginV3Layer {
 public:
  explicit FakePluginLayer(nvinfer1::IPluginV3& plugin) : plugin_(plugin.clone()) {
    mLayer = &layer;
    mImpl = this;
  }
  ~FakePluginLayer() noexcept override = default;
  nvinfer1::IPluginV3& getPlugin() noexcept override { return *plugin_; }
  FakeLayer layer{nvinfer1::LayerType::kPLUGIN_V3};

 private:
  std::unique_ptr<nvinfer1::IPluginV3> plugin_;  // the parser's own doesn't outlive the parse
};

class FakeConstantLayer final : public nvinfer1::IConstantLayer, private StubVConstantLayer {
 public:
  FakeConstantLayer(nvinfer1::Dims dims, nvinfer1::Weights weights) : dims_(dims), weights_(weights) {
    mLayer = &layer;
    mImpl = this;
  }
  ~FakeConstantLayer() noexcept override = default;
  FakeLayer layer{nvinfer1::LayerType::kCONSTANT};

 private:
  nvinfer1::Weights getWeights() const noexcept override { return weights_; }
  nvinfer1::Dims getDimensions() const noexcept override { return dims_; }
  nvinfer1::Dims dims_;
  nvinfer1::Weights weights_;
};

class FakeCastLayer final : public nvinfer1::ICastLayer, private StubVCastLayer {
 public:
  explicit FakeCastLayer(nvinfer1::DataType to) : to_(to) {
    mLayer = &layer;
    mImpl = this;
  }
  ~FakeCastLayer() noexcept override = default;
  FakeLayer layer{nvinfer1::LayerType::kCAST};

 private:
  nvinfer1::DataType getToType() const noexcept override { return to_; }
  nvinfer1::DataType to_;
};

class FakeConvolutionLayer final : public nvinfer1::IConvolutionLayer, private StubVConvolutionLayer {
 public:
  FakeConvolutionLayer(std::int64_t maps, nvinfer1::Dims kernel, nvinfer1::Weights weights, nvinfer1::Weights bias)
      : maps_(maps), kernel_(kernel), weights_(weights), bias_(bias) {
    mLayer = &layer;
    mImpl = this;
    stride_.nbDims = dilation_.nbDims = before_.nbDims = after_.nbDims = kernel.nbDims;
    for (std::int32_t i = 0; i < kernel.nbDims; ++i) stride_.d[i] = dilation_.d[i] = 1;
  }
  ~FakeConvolutionLayer() noexcept override = default;
  // Of the output; the settings come after the layer.
  void shape_output() noexcept {
    nvinfer1::Dims dims = layer.inputs[0]->getDimensions();
    dims.d[1] = maps_;
    for (std::int32_t i = 0; i < kernel_.nbDims; ++i) {
      std::int64_t& extent = dims.d[i + 2];
      const std::int64_t reach = dilation_.d[i] * (kernel_.d[i] - 1) + 1;
      if (extent >= 0) extent = (extent + before_.d[i] + after_.d[i] - reach) / stride_.d[i] + 1;
    }
    layer.outputs[0]->setDimensions(dims);
  }
  FakeLayer layer{nvinfer1::LayerType::kCONVOLUTION};

 private:
  void setStrideNd(const nvinfer1::Dims& stride) noexcept override { set(stride_, stride); }
  void setDilationNd(const nvinfer1::Dims& dilation) noexcept override { set(dilation_, dilation); }
  void setPrePadding(const nvinfer1::Dims& padding) noexcept override { set(before_, padding); }
  void setPostPadding(const nvinfer1::Dims& padding) noexcept override { set(after_, padding); }
  void setPaddingNd(const nvinfer1::Dims& padding) noexcept override {
    set(before_, padding);
    set(after_, padding);
  }
  nvinfer1::Weights getKernelWeights() const noexcept override { return weights_; }
  nvinfer1::Weights getBiasWeights() const noexcept override { return bias_; }
  std::int64_t getNbOutputMaps() const noexcept override { return maps_; }
  nvinfer1::Dims getKernelSizeNd() const noexcept override { return kernel_; }
  void set(nvinfer1::Dims& own, const nvinfer1::Dims& dims) noexcept {
    own = dims;
    shape_output();
  }
  std::int64_t maps_;
  nvinfer1::Dims kernel_, stride_{}, dilation_{}, before_{}, after_{};
  nvinfer1::Weights weights_, bias_;
};

// Both directions: an axis and the type that they give.
template <typename Layer, typename Stub, nvinfer1::LayerType kind>
class FakeQuantization final : public Layer, private Stub {
 public:
  explicit FakeQuantization(nvinfer1::DataType to) : to_(to) {
    this->mLayer = &layer;
    this->mImpl = this;
  }
  ~FakeQuantization() noexcept override = default;
  FakeLayer layer{kind};

 private:
  std::int32_t getAxis() const noexcept override { return axis_; }
  void setAxis(std::int32_t axis) noexcept override { axis_ = axis; }
  nvinfer1::DataType getToType() const noexcept override { return to_; }
  void setToType(nvinfer1::DataType to) noexcept override { to_ = to; }
  std::int32_t axis_ = -1;
  nvinfer1::DataType to_;
};
using FakeQuantizeLayer =
    FakeQuantization<nvinfer1::IQuantizeLayer, StubVQuantizeLayer, nvinfer1::LayerType::kQUANTIZE>;
using FakeDequantizeLayer =
    FakeQuantization<nvinfer1::IDequantizeLayer, StubVDequantizeLayer, nvinfer1::LayerType::kDEQUANTIZE>;

class FakeBuilder final : public nvinfer1::IBuilder, private StubVBuilder {
 public:
  explicit FakeBuilder(nvinfer1::IPluginRegistry& registry) : registry_(registry) { mImpl = this; }
  ~FakeBuilder() noexcept override = default;

 private:
  nvinfer1::IPluginRegistry& getPluginRegistry() noexcept override { return registry_; }
  nvinfer1::IPluginRegistry& registry_;
};

class FakeNetwork final : public nvinfer1::INetworkDefinition, private StubVNetworkDefinition {
 public:
  explicit FakeNetwork(nvinfer1::IPluginRegistry& registry) : builder_(registry) { mImpl = this; }
  ~FakeNetwork() noexcept override = default;
  std::vector<FakePluginLayer*> plugins;
  std::vector<nvinfer1::ILayer*> layers;
  std::vector<nvinfer1::ITensor*> inputs, outputs;

 private:
  template <typename Layer>
  Layer* add(std::shared_ptr<Layer> layer, std::vector<nvinfer1::ITensor*> given, const char* name,
             nvinfer1::DataType type, nvinfer1::Dims dims) {
    Layer* added = layer.get();
    added->layer.inputs = std::move(given);
    added->layer.outputs = {make_tensor(name, type, dims)};
    layers.push_back(added);
    owned_.push_back(std::move(layer));
    return added;
  }
  FakeTensor* make_tensor(const char* name, nvinfer1::DataType type, nvinfer1::Dims dims, bool input = false);
  nvinfer1::ITensor* addInput(const char* name, nvinfer1::DataType type, const nvinfer1::Dims& dims) noexcept override;
  void markOutput(nvinfer1::ITensor& tensor) noexcept override;
  nvinfer1::IConstantLayer* addConstant(const nvinfer1::Dims& dims, nvinfer1::Weights weights) noexcept override;
  nvinfer1::ICastLayer* addCast(nvinfer1::ITensor& input, nvinfer1::DataType to) noexcept override;
  nvinfer1::IConvolutionLayer* addConvolutionNd(nvinfer1::ITensor& input, std::int64_t maps,
                                                const nvinfer1::Dims& kernel, nvinfer1::Weights weights,
                                                nvinfer1::Weights bias) noexcept override;
  nvinfer1::IQuantizeLayer* addQuantizeV2(nvinfer1::ITensor& input, nvinfer1::ITensor& scale,
                                          nvinfer1::DataType to) noexcept override;
  nvinfer1::IDequantizeLayer* addDequantizeV2(nvinfer1::ITensor& input, nvinfer1::ITensor& scale,
                                              nvinfer1::DataType to) noexcept override;
  // Of shape_layers.h.
  nvinfer1::IShapeLayer* addShape(nvinfer1::ITensor& input) noexcept override;
  nvinfer1::IIdentityLayer* addIdentity(nvinfer1::ITensor& input) noexcept override;
  nvinfer1::IUnaryLayer* addUnary(nvinfer1::ITensor& input, nvinfer1::UnaryOperation op) noexcept override;
  nvinfer1::IElementWiseLayer* addElementWise(nvinfer1::ITensor& a, nvinfer1::ITensor& b,
                                              nvinfer1::ElementWiseOperation op) noexcept override;
  nvinfer1::IReduceLayer* addReduce(nvinfer1::ITensor& input, nvinfer1::ReduceOperation op, std::uint32_t axes,
                                    bool keep) noexcept override;
  nvinfer1::IMatrixMultiplyLayer* addMatrixMultiply(nvinfer1::ITensor& a, nvinfer1::MatrixOperation op_a,
                                                    nvinfer1::ITensor& b,
                                                    nvinfer1::MatrixOperation op_b) noexcept override;
  nvinfer1::IGatherLayer* addGather(nvinfer1::ITensor& data, nvinfer1::ITensor& indices,
                                    std::int32_t axis) noexcept override;
  nvinfer1::IGatherLayer* addGatherV2(nvinfer1::ITensor& data, nvinfer1::ITensor& indices,
                                      nvinfer1::GatherMode mode) noexcept override;
  nvinfer1::IFillLayer* addFillV2(const nvinfer1::Dims& dims, nvinfer1::FillOperation op,
                                  nvinfer1::DataType type) noexcept override;
  nvinfer1::ISliceLayer* addSlice(nvinfer1::ITensor& input, const nvinfer1::Dims& start, const nvinfer1::Dims& size,
                                  const nvinfer1::Dims& stride) noexcept override;
  nvinfer1::IConcatenationLayer* addConcatenation(nvinfer1::ITensor* const* inputs,
                                                  std::int32_t count) noexcept override;
  nvinfer1::ISqueezeLayer* addSqueeze(nvinfer1::ITensor& input, nvinfer1::ITensor& axes) noexcept override;
  nvinfer1::IUnsqueezeLayer* addUnsqueeze(nvinfer1::ITensor& input, nvinfer1::ITensor& axes) noexcept override;
  nvinfer1::IShuffleLayer* addShuffle(nvinfer1::ITensor& input) noexcept override;
  nvinfer1::IPluginV3Layer* addPluginV3(nvinfer1::ITensor* const* inputs, std::int32_t input_count,
                                        nvinfer1::ITensor* const* shape_inputs, std::int32_t shape_input_count,
                                        nvinfer1::IPluginV3& plugin) noexcept override;

  std::int32_t getNbLayers() const noexcept override { return static_cast<std::int32_t>(layers.size()); }
  nvinfer1::ILayer* getLayer(std::int32_t i) const noexcept override { return layers[static_cast<std::size_t>(i)]; }
  std::int32_t getNbInputs() const noexcept override { return static_cast<std::int32_t>(inputs.size()); }
  nvinfer1::ITensor* getInput(std::int32_t i) const noexcept override { return inputs[static_cast<std::size_t>(i)]; }
  std::int32_t getNbOutputs() const noexcept override { return static_cast<std::int32_t>(outputs.size()); }
  nvinfer1::ITensor* getOutput(std::int32_t i) const noexcept override { return outputs[static_cast<std::size_t>(i)]; }
  nvinfer1::IBuilder& getBuilder() const noexcept override { return builder_; }
  void setName(const char* name) noexcept override { name_ = name; }
  const char* getName() const noexcept override { return name_.c_str(); }
  bool setWeightsName(nvinfer1::Weights, const char*) noexcept override { return true; }
  nvinfer1::NetworkDefinitionCreationFlags getFlags() const noexcept override {
    return 1U << static_cast<unsigned>(nvinfer1::NetworkDefinitionCreationFlag::kSTRONGLY_TYPED);
  }
  bool getFlag(nvinfer1::NetworkDefinitionCreationFlag flag) const noexcept override {
    return flag == nvinfer1::NetworkDefinitionCreationFlag::kSTRONGLY_TYPED;
  }

  mutable FakeBuilder builder_;
  std::string name_;
  std::deque<std::unique_ptr<FakeTensor>> tensors_;
  std::deque<std::shared_ptr<void>> owned_;  // the layers: their base's destructor is not for all to call
};

// What the network asks of a plugin when it is added; false if the plugin refuses.
bool describe_output(nvinfer1::IPluginV3& plugin, nvinfer1::ITensor* const* inputs, std::int32_t input_count,
                     nvinfer1::DataType* type, nvinfer1::Dims* dims);

}  // namespace sn_deploy::tensorrt::test
