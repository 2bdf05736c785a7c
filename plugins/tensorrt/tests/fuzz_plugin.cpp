// The plugin's border, for libFuzzer: any fields in its creators, and every method with any types, shapes and formats,
// in any order. Launchers are the fake ones. What the sanitizers find ends the run.
#include <NvInferRuntime.h>

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <vector>

#include "tensorrt/tests/expressions.h"
#include "tensorrt/tests/fake_launcher.h"
#include "tests/fuzz_input.h"

extern "C" {
nvinfer1::IPluginCreatorInterface* const* getCreators(std::int32_t& count);
void setLoggerFinder(nvinfer1::ILoggerFinder* finder);
FakeLauncher* sn_fake_launcher();
}

namespace {

using nvinfer1::DataType;
using nvinfer1::PluginField;
using nvinfer1::PluginFieldType;
using nvinfer1::TensorFormat;
using sn_deploy::testing::FuzzInput;

[[noreturn]] void wrong(const char* what) {
  std::fprintf(stderr, "%s\n", what);
  std::abort();
}

// Counts what is logged: every refusal has a reason.
class Finder final : public nvinfer1::ILoggerFinder {
 public:
  nvinfer1::ILogger* findLogger() override { return &logger_; }
  int messages() const { return logger_.count; }

 private:
  struct Logger final : public nvinfer1::ILogger {
    int count = 0;
    void log(Severity, const char* message) noexcept override {
      if (std::strlen(message) == 0) wrong("an empty message");
      ++count;
    }
  };
  Logger logger_;
};

Finder finder;

struct Fields {
  std::vector<std::string> names;
  std::vector<std::vector<std::uint8_t>> data;
  std::vector<PluginField> list;
  nvinfer1::PluginFieldCollection collection = {};

  explicit Fields(FuzzInput* input) {
    constexpr const char* kKnown[] = {"mean_in", "mean_ln", "var_in", "var_ln", "ddof"};
    const std::uint32_t count = input->up_to(3) == 0 ? input->up_to(9) : 5;
    names.reserve(count);
    data.reserve(count);
    for (std::uint32_t i = 0; i < count; ++i) {
      const bool right = input->up_to(15) != 0;
      const std::uint32_t known = right ? i % 5 : input->up_to(4);
      names.push_back(right || input->coin() ? kKnown[known] : input->text(20));
      const auto type = right ? (known == 4 ? PluginFieldType::kINT32 : PluginFieldType::kFLOAT32)
                              : static_cast<PluginFieldType>(input->up_to(12));
      const std::int32_t length = right ? 1 : input->take<std::int8_t>();
      data.emplace_back(static_cast<std::size_t>(length > 0 ? length : 0) * 4);
      for (std::uint8_t& byte : data.back()) byte = input->take<std::uint8_t>();
      if (right && known == 4) data.back() = {static_cast<std::uint8_t>(input->up_to(1)), 0, 0, 0};
      const bool none = !right && input->coin();
      list.emplace_back(input->up_to(63) == 0 ? nullptr : names.back().c_str(), none ? nullptr : data.back().data(),
                        type, length);
    }
    collection = {static_cast<std::int32_t>(count), list.data()};
    if (input->up_to(63) == 0) collection = {input->coin() ? -1 : collection.nbFields, nullptr};
  }
};

nvinfer1::Dims draw_dims(FuzzInput* input) {
  nvinfer1::Dims dims = {};
  dims.nbDims = static_cast<std::int32_t>(input->up_to(nvinfer1::Dims::MAX_DIMS + 1)) - 1;  // -1: unknown
  for (std::int32_t axis = 0; axis < dims.nbDims; ++axis) dims.d[axis] = input->extent();
  return dims;
}

// All tensors of a node, which fit each other or don't. Never more than the plugin was told of.
std::vector<nvinfer1::DynamicPluginTensorDesc> draw_tensors(FuzzInput* input, std::size_t count) {
  nvinfer1::DynamicPluginTensorDesc x = {};
  x.desc.dims = draw_dims(input);
  x.desc.type = static_cast<DataType>(input->up_to(12));
  x.desc.format = static_cast<TensorFormat>(input->coin() ? 0 : input->up_to(14));
  x.desc.scale = 1.0F;
  x.min = x.opt = x.max = x.desc.dims;
  if (input->up_to(3) == 0) x.max = draw_dims(input);
  if (input->up_to(3) == 0) x.opt = draw_dims(input);
  nvinfer1::DynamicPluginTensorDesc parameter = {};
  parameter.desc.dims.nbDims = 1;
  parameter.desc.dims.d[0] = x.desc.dims.d[1];
  parameter.desc.type = DataType::kFLOAT;
  parameter.min = parameter.opt = parameter.max = parameter.desc.dims;
  std::vector<nvinfer1::DynamicPluginTensorDesc> all(count, x);
  for (std::size_t i = 1; i < 5 && i < count; ++i) all[i] = parameter;
  for (std::uint32_t spoiled = input->up_to(3); spoiled > 0; --spoiled) {
    nvinfer1::DynamicPluginTensorDesc& one = all[input->up_to(static_cast<std::uint32_t>(count - 1))];
    one.desc.dims = draw_dims(input);
    one.min = one.opt = one.max = one.desc.dims;
    if (input->coin()) one.desc.type = static_cast<DataType>(input->up_to(12));
    if (input->coin()) one.desc.format = static_cast<TensorFormat>(input->up_to(14));
  }
  return all;
}

// Extents of -1 and below are unknown ones there.
std::vector<std::int64_t> extents_of(const nvinfer1::Dims& dims) {
  return {dims.d, dims.d + (dims.nbDims > 0 ? dims.nbDims : 0)};
}

void build(FuzzInput* input, nvinfer1::IPluginV3OneBuildV2* plugin) {
  auto tensors = draw_tensors(input, 7);
  const auto inputs = static_cast<std::int32_t>(input->up_to(15) == 0 ? input->up_to(6) : 5 + input->up_to(1));
  const std::int32_t outputs = input->up_to(31) == 0 ? 0 : 1;
  switch (input->up_to(7)) {
    case 0: {
      std::vector<DataType> types;
      for (const auto& tensor : tensors) types.push_back(tensor.desc.type);
      std::vector<DataType> result(static_cast<std::size_t>(outputs));
      plugin->getOutputDataTypes(result.data(), outputs, types.data(), inputs);
      break;
    }
    case 1: {
      sn_deploy::tensorrt::test::Expressions expressions;
      std::vector<nvinfer1::DimsExprs> shapes;
      for (const auto& tensor : tensors) shapes.push_back(expressions.shape(extents_of(tensor.desc.dims)));
      std::vector<nvinfer1::DimsExprs> result(static_cast<std::size_t>(outputs));
      plugin->getOutputShapes(shapes.data(), inputs, nullptr, 0, result.data(), outputs, expressions);
      break;
    }
    case 2:
      if (inputs + outputs > 0) {
        const auto most = static_cast<std::uint32_t>(inputs + outputs - 1);
        plugin->supportsFormatCombination(static_cast<std::int32_t>(input->up_to(most)), tensors.data(), inputs,
                                          outputs);
      }
      break;
    case 3:
      plugin->configurePlugin(tensors.data(), inputs, tensors.data() + 6, outputs);
      break;
    case 4:
      plugin->getWorkspaceSize(tensors.data(), inputs, tensors.data() + 6, outputs);
      break;
    case 5: {
      const std::int32_t count = input->coin() ? plugin->getNbTactics() : static_cast<std::int32_t>(input->up_to(40));
      std::vector<std::int32_t> tactics(static_cast<std::size_t>(count < 0 ? 0 : count));
      plugin->getValidTactics(tactics.data(), count);
      break;
    }
    case 6:
      if (plugin->getTimingCacheID() == nullptr || plugin->getNbOutputs() != 1) wrong("no cache ID, or no output");
      break;
    default:
      if (std::strlen(plugin->getMetadataString()) > 255) wrong("the metadata is too long");
  }
}

void execute(FuzzInput* input, nvinfer1::IPluginV3OneRuntime* plugin) {
  std::vector<nvinfer1::PluginTensorDesc> tensors;
  for (const auto& tensor : draw_tensors(input, 7)) tensors.push_back(tensor.desc);
  switch (input->up_to(2)) {
    case 0:
      plugin->setTactic(input->take<std::int32_t>());
      break;
    case 1:
      plugin->onShapeChange(tensors.data(), static_cast<std::int32_t>(5 + input->up_to(1)), &tensors[6], 1);
      break;
    default: {
      FakeLauncher* launcher = sn_fake_launcher();
      launcher->refuse_tactic = input->up_to(3) == 0 ? kFakeChosen : 0;
      launcher->launch_status = input->up_to(3) == 0 ? static_cast<std::int32_t>(input->up_to(30)) : 0;
      std::uint8_t memory[8] = {};
      const void* inputs[6];
      for (const void*& one : inputs) one = input->up_to(63) == 0 ? nullptr : memory;
      void* outputs[1] = {memory};
      const bool whole = input->up_to(31) != 0;
      const int before = finder.messages();
      const std::int32_t status = plugin->enqueue(tensors.data(), &tensors[6], whole ? inputs : nullptr, outputs,
                                                  input->coin() ? memory : nullptr, nullptr);
      if (status != 0 && finder.messages() == before) wrong("enqueue failed without a reason");
    }
  }
}

void exercise(FuzzInput* input, nvinfer1::IPluginCreatorV3One* creator, std::unique_ptr<nvinfer1::IPluginV3> plugin) {
  using Type = nvinfer1::PluginCapabilityType;
  for (std::uint32_t step = input->up_to(12); step > 0; --step) {
    auto* build_face = static_cast<nvinfer1::IPluginV3OneBuildV2*>(plugin->getCapabilityInterface(Type::kBUILD));
    auto* run_face = static_cast<nvinfer1::IPluginV3OneRuntime*>(plugin->getCapabilityInterface(Type::kRUNTIME));
    switch (input->up_to(7)) {
      case 0:
        plugin.reset(plugin->clone());
        break;
      case 1:
        plugin.reset(run_face->attachToContext(nullptr));
        break;
      case 2:
        // As an engine does it.
        plugin.reset(
            creator->createPlugin("layer", run_face->getFieldsToSerialize(), nvinfer1::TensorRTPhase::kRUNTIME));
        break;
      case 3:
        plugin->getCapabilityInterface(static_cast<Type>(input->up_to(9)));
        break;
      case 4:
      case 5:
        build(input, build_face);
        break;
      default:
        execute(input, run_face);
    }
    if (plugin == nullptr) wrong("a plugin of good attributes could not be copied");
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  FuzzInput input(data, size);
  setLoggerFinder(&finder);
  std::int32_t count = 0;
  nvinfer1::IPluginCreatorInterface* const* creators = getCreators(count);
  auto* creator =
      static_cast<nvinfer1::IPluginCreatorV3One*>(creators[input.up_to(static_cast<std::uint32_t>(count - 1))]);
  const Fields fields(&input);
  const int before = finder.messages();
  const auto* given = input.up_to(63) == 0 ? nullptr : &fields.collection;
  std::unique_ptr<nvinfer1::IPluginV3> plugin(
      creator->createPlugin("layer", given, static_cast<nvinfer1::TensorRTPhase>(input.up_to(2))));
  if ((plugin == nullptr) != (finder.messages() > before)) wrong("refused without a reason, or accepted with one");
  if (plugin != nullptr) exercise(&input, creator, std::move(plugin));
  return 0;
}
