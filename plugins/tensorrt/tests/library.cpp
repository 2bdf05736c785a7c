#include "tensorrt/tests/library.h"

#include <dlfcn.h>

#include <algorithm>
#include <cstring>
#include <stdexcept>

namespace sn_deploy::tensorrt::test {

using nvinfer1::PluginCapabilityType;
using nvinfer1::PluginField;
using nvinfer1::PluginFieldType;
using nvinfer1::PluginTensorDesc;

nvinfer1::ILogger* Finder::findLogger() { return &logger_; }

std::string Finder::take() { return std::exchange(logger_.messages, {}); }

void Finder::Logger::log(Severity, const char* message) noexcept { messages.append(message).append("\n"); }

Library::Library(const char* path) : handle_(dlopen(path, RTLD_NOW | RTLD_LOCAL)) {
  if (handle_ == nullptr) throw std::runtime_error(dlerror());
  symbol<void (*)(nvinfer1::ILoggerFinder*)>("setLoggerFinder")(&finder);
}

Library::~Library() {
  symbol<void (*)(nvinfer1::ILoggerFinder*)>("setLoggerFinder")(nullptr);
  dlclose(handle_);
}

template <typename Function>
Function Library::symbol(const char* name) {
  return reinterpret_cast<Function>(dlsym(handle_, name));
}

nvinfer1::IPluginCreatorV3One& Library::creator(const char* name) {
  std::int32_t count = 0;
  using GetCreators = nvinfer1::IPluginCreatorInterface* const* (*)(std::int32_t&);
  nvinfer1::IPluginCreatorInterface* const* list = symbol<GetCreators>("getCreators")(count);
  for (std::int32_t i = 0; i < count; ++i) {
    auto& one = static_cast<nvinfer1::IPluginCreatorV3One&>(*list[i]);
    if (std::strcmp(one.getPluginName(), name) == 0) return one;
  }
  throw std::runtime_error(std::string("no creator of ") + name);
}

FakeLauncher* Library::launcher() {
  const auto state = symbol<FakeLauncher* (*)()>("sn_fake_launcher");
  return state != nullptr ? state() : nullptr;
}

Fields::Fields()
    : list{PluginField("mean_in", &mean_in, PluginFieldType::kFLOAT32, 1),
           PluginField("mean_ln", &mean_ln, PluginFieldType::kFLOAT32, 1),
           PluginField("var_in", &var_in, PluginFieldType::kFLOAT32, 1),
           PluginField("var_ln", &var_ln, PluginFieldType::kFLOAT32, 1),
           PluginField("ddof", &ddof, PluginFieldType::kINT32, 1)} {}

nvinfer1::PluginFieldCollection Fields::collection() const {
  return {static_cast<std::int32_t>(list.size()), list.data()};
}

Plugin::Plugin(nvinfer1::IPluginV3* made) : owner(made) {
  if (made == nullptr) throw std::runtime_error("no plugin was made");
  core = static_cast<nvinfer1::IPluginV3OneCore*>(made->getCapabilityInterface(PluginCapabilityType::kCORE));
  build = static_cast<nvinfer1::IPluginV3OneBuildV2*>(made->getCapabilityInterface(PluginCapabilityType::kBUILD));
  runtime = static_cast<nvinfer1::IPluginV3OneRuntime*>(made->getCapabilityInterface(PluginCapabilityType::kRUNTIME));
}

Plugin make_plugin(Library& library, const char* name, std::int32_t ddof) {
  Fields fields;
  fields.ddof = ddof;
  const nvinfer1::PluginFieldCollection collection = fields.collection();
  return Plugin(library.creator(name).createPlugin("layer", &collection, nvinfer1::TensorRTPhase::kBUILD));
}

nvinfer1::Dims dims(std::initializer_list<std::int64_t> extents) {
  nvinfer1::Dims result = {};
  result.nbDims = static_cast<std::int32_t>(extents.size());
  std::copy(extents.begin(), extents.end(), result.d);
  return result;
}

std::vector<PluginTensorDesc> tensors_of(const char* op, std::initializer_list<std::int64_t> x, nvinfer1::DataType type,
                                         nvinfer1::TensorFormat format) {
  PluginTensorDesc activation = {};
  activation.dims = dims(x);
  activation.type = type;
  activation.format = format;
  PluginTensorDesc parameter = {};
  parameter.dims = dims({x.size() > 1 ? x.begin()[1] : 1});
  parameter.type = nvinfer1::DataType::kFLOAT;
  parameter.format = nvinfer1::TensorFormat::kLINEAR;
  std::vector<PluginTensorDesc> all = {activation, parameter, parameter, parameter, parameter};
  if (std::strcmp(op, "SwitchNormAddRelu") == 0) all.push_back(activation);
  all.push_back(activation);
  return all;
}

std::vector<nvinfer1::DynamicPluginTensorDesc> profile_of(const std::vector<PluginTensorDesc>& tensors,
                                                          std::int64_t best, std::int64_t most) {
  std::vector<nvinfer1::DynamicPluginTensorDesc> profile;
  for (const PluginTensorDesc& tensor : tensors) {
    nvinfer1::DynamicPluginTensorDesc range = {};
    range.desc = tensor;
    range.min = range.opt = range.max = tensor.dims;
    if (tensor.dims.nbDims > 1) {
      range.desc.dims.d[0] = -1;
      range.min.d[0] = 1;
      range.opt.d[0] = best;
      range.max.d[0] = most;
    }
    profile.push_back(range);
  }
  return profile;
}

}  // namespace sn_deploy::tensorrt::test
