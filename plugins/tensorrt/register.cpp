// How TensorRT finds the plugins.
//
// 1. IPluginRegistry::loadLibrary, and engines that carry this library: TensorRT loads it, then calls setLoggerFinder
//    and getCreators. Both have to be there: without the first, loadLibrary gives null and says nothing.
// 2. Programs that only dlopen a plugin library (Triton's backend, `trtexec --plugins`): the library registers itself
//    in the process's global registry while it is loaded.
//
// A loadLibrary fails if a creator of the same name is registered already, which the second way has done by then, so
// the library takes its own registration back as soon as TensorRT asks for the creators.
//
// A TensorRT of another major version is given none. It would take them, and go on until it calls something whose place
// has changed: TensorRT 11's logger is not 10's.
#include <NvInferRuntime.h>

#include <cstdio>

#include "tensorrt/creator.h"
#include "tensorrt/log.h"
#include "tensorrt/process.h"

namespace sn_deploy::tensorrt {
namespace {

class Creators {
 public:
  nvinfer1::IPluginCreatorInterface* const* list() noexcept { return list_; }

 private:
  SwitchNormCreator creators_[kOpCount] = {SwitchNormCreator(kOps[0]), SwitchNormCreator(kOps[1]),
                                           SwitchNormCreator(kOps[2])};
  nvinfer1::IPluginCreatorInterface* list_[kOpCount] = {&creators_[0], &creators_[1], &creators_[2]};
};

Creators& creators() noexcept {
  static Creators all;
  return all;
}

// Registered for as long as the library is loaded, or until TensorRT loads the creators itself.
class SelfRegistration {
 public:
  SelfRegistration() noexcept : registry_(process_registry()) {
    if (registry_ == nullptr) return;
    for (std::int32_t i = 0; i < kOpCount; ++i) {
      // False where another copy of this library is registered already: that one serves.
      registered_[i] = registry_->registerCreator(*creators().list()[i], kNamespace);
    }
  }
  SelfRegistration(const SelfRegistration&) = delete;
  SelfRegistration& operator=(const SelfRegistration&) = delete;
  ~SelfRegistration() { withdraw(); }

  void withdraw() noexcept {
    for (std::int32_t i = 0; i < kOpCount; ++i) {
      if (!registered_[i]) continue;
      registered_[i] = false;
      if (!registry_->deregisterCreator(*creators().list()[i])) {
        log_error("%s: the creator could not be taken out of the registry", kOps[i].name);
      }
    }
  }

 private:
  nvinfer1::IPluginRegistry* registry_;
  bool registered_[kOpCount] = {};
};

// Built when the library is loaded; after `creators`, which it uses, and so destroyed before it.
SelfRegistration self_registration;

// Whether the TensorRT whose code is at this address is of another major version than this library is for.
bool is_another(const void* caller) noexcept {
  const int major = tensorrt_at(caller);
  return major != 0 && major != NV_TENSORRT_MAJOR;
}

}  // namespace
}  // namespace sn_deploy::tensorrt

extern "C" {

__attribute__((visibility("default"))) void setLoggerFinder(nvinfer1::ILoggerFinder* finder) {
  if (sn_deploy::tensorrt::is_another(__builtin_return_address(0))) return;
  sn_deploy::tensorrt::self_registration.withdraw();
  sn_deploy::tensorrt::use_logger_finder(finder);
}

__attribute__((visibility("default"))) nvinfer1::IPluginCreatorInterface* const* getCreators(std::int32_t& count) {
  const void* caller = __builtin_return_address(0);
  if (sn_deploy::tensorrt::is_another(caller)) {
    const int major = sn_deploy::tensorrt::tensorrt_at(caller);
    // Not to the logger, which is the other version's.
    std::fprintf(stderr, "sn_deploy: this plugin is for TensorRT %d, not %d: load libsn_deploy_trt%d.so\n",
                 NV_TENSORRT_MAJOR, major, major);
    count = 0;
    return nullptr;
  }
  sn_deploy::tensorrt::self_registration.withdraw();
  count = sn_deploy::tensorrt::kOpCount;
  return sn_deploy::tensorrt::creators().list();
}

}  // extern "C"
