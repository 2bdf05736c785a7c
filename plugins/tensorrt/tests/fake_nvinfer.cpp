// libnvinfer's registry and logger, as far as a plugin library that registers itself uses them.
#include <NvInferRuntime.h>

#include <algorithm>
#include <cstring>
#include <vector>

#define SN_EXPORT extern "C" __attribute__((visibility("default")))

namespace {

using nvinfer1::IPluginCreatorInterface;
using nvinfer1::IPluginCreatorV3One;

class FakeRegistry final : public nvinfer1::IPluginRegistry {
 public:
  std::vector<IPluginCreatorInterface*> creators;

  bool registerCreator(IPluginCreatorInterface& creator, const char* const) noexcept override {
    const char* name = static_cast<IPluginCreatorV3One&>(creator).getPluginName();
    const bool taken = std::any_of(creators.begin(), creators.end(), [name](IPluginCreatorInterface* other) {
      return std::strcmp(static_cast<IPluginCreatorV3One*>(other)->getPluginName(), name) == 0;
    });
    if (!taken) creators.push_back(&creator);
    return !taken;
  }

  bool deregisterCreator(const IPluginCreatorInterface& creator) noexcept override {
    const auto found = std::find(creators.begin(), creators.end(), &creator);
    if (found == creators.end()) return false;
    creators.erase(found);
    return true;
  }

  // The rest is not used by plugin libraries.
  void setErrorRecorder(nvinfer1::IErrorRecorder* const) noexcept override {}
  nvinfer1::IErrorRecorder* getErrorRecorder() const noexcept override { return nullptr; }
  bool isParentSearchEnabled() const override { return false; }
  void setParentSearchEnabled(const bool) override {}
  PluginLibraryHandle loadLibrary(const char*) noexcept override { return nullptr; }
  void deregisterLibrary(PluginLibraryHandle) noexcept override {}
  IPluginCreatorInterface* const* getAllCreators(int32_t* const) const noexcept override { return nullptr; }
  IPluginCreatorInterface* getCreator(const char* const, const char* const, const char* const) noexcept override {
    return nullptr;
  }
  nvinfer1::IPluginResource* acquirePluginResource(const char*, nvinfer1::IPluginResource*) noexcept override {
    return nullptr;
  }
  int32_t releasePluginResource(const char*) noexcept override { return 0; }
  IPluginCreatorInterface* const* getAllCreatorsRecursive(int32_t* const) noexcept override { return nullptr; }

#if NV_TENSORRT_MAJOR < 11
  bool registerCreator(nvinfer1::IPluginCreator&, const char* const) noexcept override { return false; }
  nvinfer1::IPluginCreator* const* getPluginCreatorList(int32_t* const) const noexcept override { return nullptr; }
  nvinfer1::IPluginCreator* getPluginCreator(const char* const, const char* const,
                                             const char* const) noexcept override {
    return nullptr;
  }
  bool deregisterCreator(const nvinfer1::IPluginCreator&) noexcept override { return false; }
#endif
};

FakeRegistry registry;
nvinfer1::ILogger* logger = nullptr;

}  // namespace

SN_EXPORT nvinfer1::IPluginRegistry* getPluginRegistry() noexcept { return &registry; }
SN_EXPORT nvinfer1::ILogger* getLogger() noexcept { return logger; }
SN_EXPORT void sn_fake_log_to(nvinfer1::ILogger* to) { logger = to; }
SN_EXPORT int sn_fake_registered() { return static_cast<int>(registry.creators.size()); }
