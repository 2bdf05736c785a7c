#include "tensorrt/process.h"

#include <dlfcn.h>

#define SN_TEXT_OF(value) #value
#define SN_TEXT(value) SN_TEXT_OF(value)
#define SN_TRT_MAJOR_TEXT SN_TEXT(NV_TENSORRT_MAJOR)

namespace sn_deploy::tensorrt {
namespace {

// The full library, and the two runtimes that version-compatible engines may be read with.
constexpr const char* kLibraries[] = {
    "libnvinfer.so." SN_TRT_MAJOR_TEXT,
    "libnvinfer_lean.so." SN_TRT_MAJOR_TEXT,
    "libnvinfer_dispatch.so." SN_TRT_MAJOR_TEXT,
};

// With `keep` the full library stays loaded to the end of the process. The others never do: an engine brings a lean
// runtime of its own, and would leave it behind.
template <typename Result>
Result* call(const char* symbol, bool keep = false) noexcept {
  using Function = Result* (*)();
  for (const char* name : kLibraries) {
    void* library = dlopen(name, RTLD_LAZY | RTLD_NOLOAD | (keep && name == kLibraries[0] ? RTLD_NODELETE : 0));
    if (library == nullptr) continue;
    const auto function = reinterpret_cast<Function>(dlsym(library, symbol));
    Result* result = function != nullptr ? function() : nullptr;
    dlclose(library);  // undoes RTLD_NOLOAD's reference; the process keeps its own
    if (result != nullptr) return result;
  }
  return nullptr;
}

}  // namespace

nvinfer1::IPluginRegistry* process_registry() noexcept {
  return call<nvinfer1::IPluginRegistry>("getPluginRegistry", true);
}

nvinfer1::ILogger* process_logger() noexcept { return call<nvinfer1::ILogger>("getLogger"); }

}  // namespace sn_deploy::tensorrt
