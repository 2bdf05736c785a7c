#include "fake_network.h"

#include "tensorrt/tests/expressions.h"

namespace sn_deploy::tensorrt::test {

using nvinfer1::DataType;
using nvinfer1::Dims;
using nvinfer1::ITensor;
using nvinfer1::PluginCapabilityType;

bool describe_output(nvinfer1::IPluginV3& plugin, ITensor* const* inputs, std::int32_t input_count, DataType* type,
                     Dims* dims) {
  auto* build = static_cast<nvinfer1::IPluginV3OneBuild*>(plugin.getCapabilityInterface(PluginCapabilityType::kBUILD));
  std::vector<DataType> types;
  std::vector<nvinfer1::DimsExprs> shapes;
  Expressions expressions;
  for (std::int32_t i = 0; i < input_count; ++i) {
    const Dims extents = inputs[i]->getDimensions();
    types.push_back(inputs[i]->getType());
    shapes.push_back(expressions.shape(std::vector<std::int64_t>(extents.d, extents.d + extents.nbDims)));
  }
  nvinfer1::DimsExprs output = {};
  if (build->getOutputDataTypes(type, 1, types.data(), input_count) != 0) return false;
  if (build->getOutputShapes(shapes.data(), input_count, nullptr, 0, &output, 1, expressions) != 0) return false;
  dims->nbDims = output.nbDims;
  for (std::int32_t axis = 0; axis < output.nbDims; ++axis) {
    dims->d[axis] = output.d[axis]->isConstant() ? output.d[axis]->getConstantValue() : -1;
  }
  return true;
}

FakeTensor* FakeNetwork::make_tensor(const char* name, DataType type, Dims dims, bool input) {
  tensors_.push_back(std::make_unique<FakeTensor>(name, type, dims, input));
  return tensors_.back().get();
}

ITensor* FakeNetwork::addInput(const char* name, DataType type, const Dims& dims) noexcept {
  inputs.push_back(make_tensor(name, type, dims, true));
  return inputs.back();
}

void FakeNetwork::markOutput(ITensor& tensor) noexcept {
  static_cast<FakeTensor&>(tensor).output = true;
  outputs.push_back(&tensor);
}

nvinfer1::IConstantLayer* FakeNetwork::addConstant(const Dims& dims, nvinfer1::Weights weights) noexcept {
  auto* added = add(std::make_shared<FakeConstantLayer>(dims, weights), {}, "constant", weights.type, dims);
  if (weights.type == DataType::kINT64) {
    const auto* values = static_cast<const std::int64_t*>(weights.values);
    static_cast<FakeTensor*>(added->layer.outputs[0])->values.assign(values, values + weights.count);
  }
  return added;
}

nvinfer1::ICastLayer* FakeNetwork::addCast(ITensor& input, DataType to) noexcept {
  return add(std::make_shared<FakeCastLayer>(to), {&input}, "cast", to, input.getDimensions());
}

nvinfer1::IConvolutionLayer* FakeNetwork::addConvolutionNd(ITensor& input, std::int64_t maps, const Dims& kernel,
                                                           nvinfer1::Weights weights, nvinfer1::Weights bias) noexcept {
  auto* added = add(std::make_shared<FakeConvolutionLayer>(maps, kernel, weights, bias), {&input}, "convolution",
                    input.getType(), input.getDimensions());
  added->shape_output();
  return added;
}

nvinfer1::IQuantizeLayer* FakeNetwork::addQuantizeV2(ITensor& input, ITensor& scale, DataType to) noexcept {
  return add(std::make_shared<FakeQuantizeLayer>(to), {&input, &scale}, "quantize", to, input.getDimensions());
}

nvinfer1::IDequantizeLayer* FakeNetwork::addDequantizeV2(ITensor& input, ITensor& scale, DataType to) noexcept {
  return add(std::make_shared<FakeDequantizeLayer>(to), {&input, &scale}, "dequantize", to, input.getDimensions());
}

nvinfer1::IPluginV3Layer* FakeNetwork::addPluginV3(ITensor* const* given, std::int32_t count, ITensor* const*,
                                                   std::int32_t, nvinfer1::IPluginV3& plugin) noexcept {
  DataType type = {};
  Dims dims = {};
  if (!describe_output(plugin, given, count, &type, &dims)) return nullptr;  // as TensorRT does
  auto layer = std::make_shared<FakePluginLayer>(plugin);
  FakePluginLayer* added = layer.get();
  added->layer.inputs.assign(given, given + count);
  added->layer.outputs = {make_tensor("plugin", type, dims)};
  layers.push_back(added);
  plugins.push_back(added);
  owned_.push_back(std::move(layer));
  return added;
}

}  // namespace sn_deploy::tensorrt::test
