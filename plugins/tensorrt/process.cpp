#include "tensorrt/process.h"

#include <dlfcn.h>

#include <cstddef>
#include <cstdlib>
#include <cstring>

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

int tensorrt_at(const void* address) noexcept {
  Dl_info info;
  if (dladdr(address, &info) == 0 || info.dli_fname == nullptr) return 0;
  const char* slash = std::strrchr(info.dli_fname, '/');
  const char* file = slash == nullptr ? info.dli_fname : slash + 1;
  for (const char* name : kLibraries) {
    const auto length = static_cast<std::size_t>(std::strrchr(name, '.') + 1 - name);  // "libnvinfer.so."
    if (std::strncmp(file, name, length) == 0) return static_cast<int>(std::strtol(file + length, nullptr, 10));
  }
  return 0;
}

nvinfer1::ILogger* process_logger() noexcept { return call<nvinfer1::ILogger>("getLogger"); }

}  // namespace sn_deploy::tensorrt
