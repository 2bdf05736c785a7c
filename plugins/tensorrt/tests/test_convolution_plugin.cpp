// The trial's plugin over the host's kernels: what TensorRT asks of it, up to Y.
#include <gtest/gtest.h>

#include <array>
#include <cstring>
#include <memory>
#include <vector>

#include "cuda/convolution/tests/expansion.h"
#include "tensorrt/convolution/plugin.h"
#include "tensorrt/tests/expressions.h"

extern "C" nvinfer1::IPluginCreatorInterface* const* getCreators(std::int32_t& count);

namespace sn_deploy::tensorrt::test {
namespace {

using cuda::test::ConvolutionCase;
using cuda::test::Expansion;
using nvinfer1::DataType;
using nvinfer1::DynamicPluginTensorDesc;
using nvinfer1::PluginField;
using nvinfer1::PluginFieldType;
using nvinfer1::PluginTensorDesc;
using nvinfer1::TensorFormat;

// What `Expansion` computes with.
struct GivenFields {
  float mean_in = 0.5F, mean_ln = 0.3F, var_in = 0.25F, var_ln = 0.6F;
  std::int32_t ddof = 1, stride = 2;
  std::vector<PluginField> list = {
      {"stride", &stride, PluginFieldType::kINT32, 1},     {"mean_in", &mean_in, PluginFieldType::kFLOAT32, 1},
      {"mean_ln", &mean_ln, PluginFieldType::kFLOAT32, 1}, {"var_in", &var_in, PluginFieldType::kFLOAT32, 1},
      {"var_ln", &var_ln, PluginFieldType::kFLOAT32, 1},   {"ddof", &ddof, PluginFieldType::kINT32, 1}};
};

std::unique_ptr<nvinfer1::IPluginV3> make_plugin(bool adds, const std::vector<PluginField>& fields) {
  std::int32_t count = 0;
  nvinfer1::IPluginCreatorInterface* const* creators = getCreators(count);
  EXPECT_EQ(count, 2);
  auto* creator = static_cast<nvinfer1::IPluginCreatorV3One*>(creators[adds ? 1 : 0]);
  EXPECT_STREQ(creator->getPluginName(), adds ? "SwitchNormConvolutionAddRelu" : "SwitchNormConvolution");
  EXPECT_EQ(creator->getFieldNames()->nbFields, 6);
  const nvinfer1::PluginFieldCollection collection = {static_cast<std::int32_t>(fields.size()), fields.data()};
  return std::unique_ptr<nvinfer1::IPluginV3>(
      creator->createPlugin("node", &collection, nvinfer1::TensorRTPhase::kBUILD));
}

template <typename Face>
Face& face(nvinfer1::IPluginV3& plugin, nvinfer1::PluginCapabilityType type) {
  return *static_cast<Face*>(plugin.getCapabilityInterface(type));
}

PluginTensorDesc tensor(std::initializer_list<std::int64_t> extents, DataType type, TensorFormat format) {
  PluginTensorDesc made = {};
  for (const std::int64_t extent : extents) made.dims.d[made.dims.nbDims++] = extent;
  made.type = type;
  made.format = format;
  return made;
}

// Of a node with a residual, Y last.
std::vector<PluginTensorDesc> tensors_of(const ConvolutionCase& c) {
  const std::int64_t height = (c.height + c.stride - 1) / c.stride, width = (c.width + c.stride - 1) / c.stride;
  std::vector<PluginTensorDesc> all = {
      tensor({c.batch, c.depth, c.height, c.width}, DataType::kHALF, TensorFormat::kHWC8)};
  for (int i = 0; i < 4; ++i) all.push_back(tensor({c.channels}, DataType::kFLOAT, TensorFormat::kLINEAR));
  all.push_back(tensor({c.channels, c.depth, 1, 1}, DataType::kHALF, TensorFormat::kLINEAR));
  const int images = c.epilogue == Epilogue::kAddRelu ? 2 : 1;
  for (int i = 0; i < images; ++i) {
    all.push_back(tensor({c.batch, c.channels, height, width}, DataType::kHALF, TensorFormat::kHWC8));
  }
  return all;
}

// Builds, chooses each tactic in turn, and runs.
void run_all(const ConvolutionCase& c, const std::vector<PluginField>& fields) {
  const bool adds = c.epilogue == Epilogue::kAddRelu;
  const auto plugin = make_plugin(adds, fields);
  ASSERT_NE(plugin, nullptr);
  auto& build = face<nvinfer1::IPluginV3OneBuildV2>(*plugin, nvinfer1::PluginCapabilityType::kBUILD);
  const std::vector<PluginTensorDesc> tensors = tensors_of(c);
  const auto inputs = static_cast<std::int32_t>(tensors.size()) - 1;
  std::vector<DynamicPluginTensorDesc> profile;
  for (const PluginTensorDesc& one : tensors) profile.push_back({one, one.dims, one.dims, one.dims});
  for (std::int32_t i = 0; i <= inputs; ++i) {
    EXPECT_TRUE(build.supportsFormatCombination(i, profile.data(), inputs, 1)) << i;
    std::vector<DynamicPluginTensorDesc> other = profile;
    auto& desc = other[static_cast<std::size_t>(i)].desc;
    desc.format = desc.format == TensorFormat::kHWC8 ? TensorFormat::kLINEAR : TensorFormat::kHWC8;
    EXPECT_FALSE(build.supportsFormatCombination(i, other.data(), inputs, 1)) << i;
  }
  Expressions expressions;
  std::vector<nvinfer1::DimsExprs> shapes;
  for (const PluginTensorDesc& one : tensors) {
    shapes.push_back(expressions.shape(std::vector<std::int64_t>(one.dims.d, one.dims.d + one.dims.nbDims)));
  }
  nvinfer1::DimsExprs y = {};
  ASSERT_EQ(build.getOutputShapes(shapes.data(), inputs, nullptr, 0, &y, 1, expressions), 0);
  ASSERT_EQ(y.nbDims, 4);
  for (int axis = 0; axis < 4; ++axis) EXPECT_EQ(y.d[axis]->getConstantValue(), tensors.back().dims.d[axis]) << axis;
  ASSERT_EQ(build.configurePlugin(profile.data(), inputs, &profile.back(), 1), 0);
  std::vector<std::int32_t> tactics(static_cast<std::size_t>(build.getNbTactics()));
  ASSERT_GT(tactics.size(), 2U);
  ASSERT_EQ(build.getValidTactics(tactics.data(), static_cast<std::int32_t>(tactics.size())), 0);
  tactics.push_back(0);  // none was timed

  const Expansion given(c);
  SnCudaProblem problem = given.problem();
  const SnConvolution convolution = {c.depth, c.stride, c.height, c.width};
  std::vector<SnConvolutionTactic> listed(tactics.size());
  std::int32_t count = 0;
  ASSERT_EQ(sn_convolution_list_tactics(&problem, &convolution, listed.data(),
                                        static_cast<std::int32_t>(tactics.size()) - 1, &count),
            0);
  listed.back() = listed.front();
  const SnCudaTensors from = given.tensors();
  std::vector<const void*> addresses = {from.x,           from.scale,      from.bias,
                                        from.mean_offset, from.var_offset, given.filter()};
  if (adds) addresses.push_back(from.residual);
  for (std::size_t i = 0; i < tactics.size(); ++i) {
    const std::unique_ptr<nvinfer1::IPluginV3> cloned(plugin->clone());
    auto& runtime = face<nvinfer1::IPluginV3OneRuntime>(*cloned, nvinfer1::PluginCapabilityType::kRUNTIME);
    ASSERT_EQ(runtime.setTactic(tactics[i]), 0);
    ASSERT_EQ(runtime.onShapeChange(tensors.data(), inputs, &tensors.back(), 1), 0);
    std::memset(given.y(), 0xFF, static_cast<std::size_t>(given.elements()) * 2);
    void* outputs[] = {given.y()};
    ASSERT_EQ(runtime.enqueue(tensors.data(), &tensors.back(), addresses.data(), outputs, nullptr, nullptr), 0);
    EXPECT_LE(given.error(), cuda::test::kTolerance);
    const std::vector<unsigned char> found = given.bytes_of_y();
    ASSERT_EQ(sn_convolution_launch(&problem, &from, given.filter(), &convolution, &listed[i], nullptr), 0);
    EXPECT_EQ(found, given.bytes_of_y()) << "another tactic than " << i;
    const nvinfer1::PluginFieldCollection* kept = runtime.getFieldsToSerialize();
    const std::vector<PluginField> again(kept->fields, kept->fields + kept->nbFields);
    EXPECT_NE(make_plugin(adds, again), nullptr);
  }
}

TEST(ConvolutionPlugin, RunsEveryTacticThatItNames) {
  const GivenFields given;
  run_all({1, 64, 128, 7, 9, 2, Epilogue::kAddRelu, {}, 0.0}, given.list);
  run_all({2, 128, 64, 6, 5, 2, Epilogue::kNone, {}, 0.0}, given.list);
}

// An engine's profile has room for other sizes than those at which tactics were timed.
TEST(ConvolutionPlugin, TakesAnotherTacticWhereItsOwnCannotRun) {
  GivenFields given;
  given.stride = 1;
  const ConvolutionCase c = {1, 64, 128, 20, 30, 1, Epilogue::kAddRelu, {}, 0.0};
  const auto plugin = make_plugin(true, given.list);
  ASSERT_NE(plugin, nullptr);
  auto& build = face<nvinfer1::IPluginV3OneBuildV2>(*plugin, nvinfer1::PluginCapabilityType::kBUILD);
  auto& runtime = face<nvinfer1::IPluginV3OneRuntime>(*plugin, nvinfer1::PluginCapabilityType::kRUNTIME);
  std::vector<DynamicPluginTensorDesc> small;
  for (const PluginTensorDesc& one : tensors_of({1, 64, 128, 2, 3, 1, Epilogue::kAddRelu, {}, 0.0})) {
    small.push_back({one, one.dims, one.dims, one.dims});
  }
  ASSERT_EQ(build.configurePlugin(small.data(), 7, &small.back(), 1), 0);
  std::vector<std::int32_t> tactics(static_cast<std::size_t>(build.getNbTactics()));
  ASSERT_EQ(build.getValidTactics(tactics.data(), static_cast<std::int32_t>(tactics.size())), 0);
  ASSERT_EQ(runtime.setTactic(tactics.front()), 0);  // kept: one product for each warp

  const Expansion expansion(c);
  const SnCudaTensors from = expansion.tensors();
  const std::vector<PluginTensorDesc> tensors = tensors_of(c);
  const void* addresses[] = {from.x,          from.scale,         from.bias,    from.mean_offset,
                             from.var_offset, expansion.filter(), from.residual};
  void* outputs[] = {expansion.y()};
  ASSERT_EQ(runtime.enqueue(tensors.data(), &tensors.back(), addresses, outputs, nullptr, nullptr), 0);
  EXPECT_LE(expansion.error(), cuda::test::kTolerance);
}

TEST(ConvolutionPlugin, RefusesFieldsThatItDoesNotKnow) {
  GivenFields given;
  const std::vector<PluginField> without(given.list.begin() + 1, given.list.end());
  EXPECT_EQ(make_plugin(true, without), nullptr);
  EXPECT_EQ(make_plugin(true, {given.list.front()}), nullptr);
  given.stride = 0;
  EXPECT_EQ(make_plugin(true, given.list), nullptr);
}

}  // namespace
}  // namespace sn_deploy::tensorrt::test
