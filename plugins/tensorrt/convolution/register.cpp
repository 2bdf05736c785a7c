// The creators, and the two functions with which TensorRT finds them when it is told to load the library.
#include <new>

#include "tensorrt/convolution/plugin.h"
#include "tensorrt/log.h"
#include "tensorrt/op.h"

namespace sn_deploy::tensorrt {
namespace {

class ConvolutionCreator final : public nvinfer1::IPluginCreatorV3One {
 public:
  explicit ConvolutionCreator(const ConvolutionOp& op) noexcept : op_(op) {
    describe(ConvolutionAttributes{}, fields_);
    for (nvinfer1::PluginField& field : fields_) field.data = nullptr;  // there are no defaults
    collection_ = {kConvolutionFieldCount, fields_};
  }
  ConvolutionCreator(const ConvolutionCreator&) = delete;
  ConvolutionCreator& operator=(const ConvolutionCreator&) = delete;

  nvinfer1::IPluginV3* createPlugin(const char*, const nvinfer1::PluginFieldCollection* fields,
                                    nvinfer1::TensorRTPhase) noexcept override {
    ConvolutionAttributes attributes;
    return parse(op_.name, fields, &attributes) ? new (std::nothrow) ConvolutionPlugin(op_, attributes) : nullptr;
  }
  const nvinfer1::PluginFieldCollection* getFieldNames() noexcept override { return &collection_; }
  const char* getPluginName() const noexcept override { return op_.name; }
  const char* getPluginVersion() const noexcept override { return kVersion; }
  const char* getPluginNamespace() const noexcept override { return kNamespace; }

 private:
  const ConvolutionOp& op_;
  nvinfer1::PluginField fields_[kConvolutionFieldCount];
  nvinfer1::PluginFieldCollection collection_;
};

}  // namespace
}  // namespace sn_deploy::tensorrt

extern "C" {

__attribute__((visibility("default"))) void setLoggerFinder(nvinfer1::ILoggerFinder* finder) {
  sn_deploy::tensorrt::use_logger_finder(finder);
}

__attribute__((visibility("default"))) nvinfer1::IPluginCreatorInterface* const* getCreators(std::int32_t& count) {
  using sn_deploy::tensorrt::ConvolutionCreator;
  static ConvolutionCreator plain(sn_deploy::tensorrt::kConvolutionOps[0]);
  static ConvolutionCreator adding(sn_deploy::tensorrt::kConvolutionOps[1]);
  static nvinfer1::IPluginCreatorInterface* list[] = {&plain, &adding};
  count = sn_deploy::tensorrt::kConvolutionOpCount;
  return list;
}

}  // extern "C"
