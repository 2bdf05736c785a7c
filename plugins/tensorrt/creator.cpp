#include "tensorrt/creator.h"

#include <new>

#include "tensorrt/log.h"
#include "tensorrt/plugin.h"

namespace sn_deploy::tensorrt {

SwitchNormCreator::SwitchNormCreator(const Op& op) noexcept : op_(op) {
  describe(Attributes{}, fields_);
  for (nvinfer1::PluginField& field : fields_) field.data = nullptr;  // there are no defaults
  collection_ = {kFieldCount, fields_};
}

nvinfer1::IPluginV3* SwitchNormCreator::createPlugin(const char*, const nvinfer1::PluginFieldCollection* fields,
                                                     nvinfer1::TensorRTPhase) noexcept {
  Attributes attributes;
  if (!parse(op_.name, fields, &attributes)) return nullptr;
  nvinfer1::IPluginV3* plugin = new (std::nothrow) SwitchNormPlugin(op_, attributes);
  if (plugin == nullptr) log_error("%s: out of memory", op_.name);
  return plugin;
}

const nvinfer1::PluginFieldCollection* SwitchNormCreator::getFieldNames() noexcept { return &collection_; }
const char* SwitchNormCreator::getPluginName() const noexcept { return op_.name; }
const char* SwitchNormCreator::getPluginVersion() const noexcept { return kVersion; }
const char* SwitchNormCreator::getPluginNamespace() const noexcept { return kNamespace; }

}  // namespace sn_deploy::tensorrt
