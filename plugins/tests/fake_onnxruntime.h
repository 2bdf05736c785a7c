// As much of ONNX Runtime's C API as the custom-op library calls, over plain structs: it counts what it handed out, and
// can fail at any call, so that every error path runs under the sanitizers without ONNX Runtime.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <map>
#include <new>
#include <string>
#include <vector>

#include "onnxruntime/api.h"

struct OrtStatus {
  OrtErrorCode code;
  std::string message;
};

struct OrtTensorTypeAndShapeInfo {
  std::vector<std::int64_t> extents;
  std::vector<std::string> names = {};  // of extents of -1; may be shorter
};

struct OrtMemoryInfo {
  OrtMemoryInfoDeviceType device;
};

struct OrtValue {
  std::vector<std::int64_t> extents;
  std::vector<std::uint8_t> data;
};

struct OrtKernelInfo {
  std::string name;
  std::map<std::string, float> floats;
  std::map<std::string, std::int64_t> ints;
  std::map<std::string, std::string> strings;
};

struct OrtKernelContext {
  std::vector<OrtValue> inputs;
  OrtValue output;
  void* stream = nullptr;
};

struct OrtShapeInferContext {
  OrtTensorTypeAndShapeInfo x;
  const OrtTensorTypeAndShapeInfo* y = nullptr;
};

struct OrtCustomOpDomain {
  std::string name;
  std::vector<const OrtCustomOp*> ops;
};

struct OrtSessionOptions {
  std::vector<OrtCustomOpDomain*> domains;
  std::map<std::string, std::string> entries;
};

namespace sn_deploy::testing {

// One at a time, as the API's functions have no state of their own.
struct Fake {
  int alive = 0;     // statuses, shapes and domains that weren't released
  int calls = 0;     // that may fail
  int failing = -1;  // the number of the call that fails; none below 0
  OrtApi api = {};
  OrtApiBase base = {};
  std::uint32_t newest = 1000;                           // the API version it has
  OrtMemoryInfo memory = {OrtMemoryInfoDeviceType_GPU};  // that tensors are in
  std::size_t scratch_bytes = 0;                         // that were handed out last

  Fake();
};

inline Fake*& current_fake() {
  static Fake* fake = nullptr;
  return fake;
}

inline OrtStatus* make_status(OrtErrorCode code, const char* message) {
  ++current_fake()->alive;
  return new OrtStatus{code, message};
}

// Every function that can fail begins with this.
inline OrtStatus* next_call() {
  Fake& fake = *current_fake();
  return fake.calls++ == fake.failing ? make_status(ORT_FAIL, "injected") : nullptr;
}

template <typename Attributes, typename Value>
OrtStatus* read_attribute(const Attributes& attributes, const char* name, Value* out) {
  if (OrtStatus* failed = next_call()) return failed;
  const auto found = attributes.find(name);
  if (found == attributes.end()) return make_status(ORT_FAIL, "no such attribute");
  *out = found->second;
  return nullptr;
}

inline void fill_status_functions(OrtApi* api) {
  api->CreateStatus = [](OrtErrorCode code, const char* message) noexcept { return make_status(code, message); };
  api->ReleaseStatus = [](OrtStatus* status) noexcept {
    --current_fake()->alive;
    delete status;
  };
}

inline void fill_registration_functions(OrtApi* api) {
  api->CreateCustomOpDomain = [](const char* name, OrtCustomOpDomain** out) noexcept -> OrtStatus* {
    if (OrtStatus* failed = next_call()) return failed;
    ++current_fake()->alive;
    *out = new OrtCustomOpDomain{name, {}};
    return nullptr;
  };
  api->ReleaseCustomOpDomain = [](OrtCustomOpDomain* domain) noexcept {
    --current_fake()->alive;
    delete domain;
  };
  api->CustomOpDomain_Add = [](OrtCustomOpDomain* domain, const OrtCustomOp* op) noexcept -> OrtStatus* {
    if (OrtStatus* failed = next_call()) return failed;
    domain->ops.push_back(op);
    return nullptr;
  };
  api->AddCustomOpDomain = [](OrtSessionOptions* options, OrtCustomOpDomain* domain) noexcept -> OrtStatus* {
    if (OrtStatus* failed = next_call()) return failed;
    options->domains.push_back(domain);
    return nullptr;
  };
}

// Copies a string out as the API does: a `size` that is too small is an error, and set to what it should be.
inline OrtStatus* copy_out(const std::string& text, char* out, std::size_t* size) {
  const bool fits = *size > text.size();
  *size = text.size() + 1;
  if (!fits) return make_status(ORT_INVALID_ARGUMENT, "too small");
  std::memcpy(out, text.c_str(), *size);
  return nullptr;
}

inline void fill_option_functions(OrtApi* api) {
  api->HasSessionConfigEntry = [](const OrtSessionOptions* options, const char* key, int* out) noexcept -> OrtStatus* {
    if (OrtStatus* failed = next_call()) return failed;
    *out = options->entries.count(key) != 0 ? 1 : 0;
    return nullptr;
  };
  api->GetSessionConfigEntry = [](const OrtSessionOptions* options, const char* key, char* out,
                                  std::size_t* size) noexcept -> OrtStatus* {
    if (OrtStatus* failed = next_call()) return failed;
    return copy_out(options->entries.at(key), out, size);
  };
  api->AddSessionConfigEntry = [](OrtSessionOptions* options, const char* key,
                                  const char* value) noexcept -> OrtStatus* {
    if (OrtStatus* failed = next_call()) return failed;
    options->entries[key] = value;
    return nullptr;
  };
}

inline void fill_node_functions(OrtApi* api) {
  api->KernelInfo_GetNodeName = [](const OrtKernelInfo* info, char* out, std::size_t* size) noexcept -> OrtStatus* {
    if (OrtStatus* failed = next_call()) return failed;
    return copy_out(info->name, out, size);
  };
  api->KernelInfoGetAttribute_float = [](const OrtKernelInfo* info, const char* name, float* out) noexcept {
    return read_attribute(info->floats, name, out);
  };
  api->KernelInfoGetAttribute_int64 = [](const OrtKernelInfo* info, const char* name, std::int64_t* out) noexcept {
    return read_attribute(info->ints, name, out);
  };
  api->KernelInfoGetAttribute_string = [](const OrtKernelInfo* info, const char* name, char* out,
                                          std::size_t* size) noexcept -> OrtStatus* {
    std::string text;
    if (OrtStatus* failed = read_attribute(info->strings, name, &text)) return failed;
    return copy_out(text, out, size);
  };
  api->ShapeInferContext_GetInputTypeShape = [](const OrtShapeInferContext* context, std::size_t,
                                                OrtTensorTypeAndShapeInfo** out) noexcept -> OrtStatus* {
    if (OrtStatus* failed = next_call()) return failed;
    *out = const_cast<OrtTensorTypeAndShapeInfo*>(&context->x);
    return nullptr;
  };
  api->ShapeInferContext_SetOutputTypeShape = [](const OrtShapeInferContext* context, std::size_t,
                                                 const OrtTensorTypeAndShapeInfo* info) noexcept -> OrtStatus* {
    if (OrtStatus* failed = next_call()) return failed;
    const_cast<OrtShapeInferContext*>(context)->y = info;
    return nullptr;
  };
}

inline void fill_tensor_functions(OrtApi* api) {
  api->KernelContext_GetInput = [](const OrtKernelContext* context, std::size_t index,
                                   const OrtValue** out) noexcept -> OrtStatus* {
    if (OrtStatus* failed = next_call()) return failed;
    *out = index < context->inputs.size() ? &context->inputs[index] : nullptr;
    return nullptr;
  };
  api->KernelContext_GetOutput = [](OrtKernelContext* context, std::size_t, const std::int64_t* extents,
                                    std::size_t rank, OrtValue** out) noexcept -> OrtStatus* {
    if (OrtStatus* failed = next_call()) return failed;
    context->output.extents.assign(extents, extents + rank);
    context->output.data.assign(context->inputs[0].data.size(), 0);
    *out = &context->output;
    return nullptr;
  };
  api->GetTensorTypeAndShape = [](const OrtValue* value, OrtTensorTypeAndShapeInfo** out) noexcept -> OrtStatus* {
    if (OrtStatus* failed = next_call()) return failed;
    ++current_fake()->alive;
    *out = new OrtTensorTypeAndShapeInfo{value->extents};
    return nullptr;
  };
  api->ReleaseTensorTypeAndShapeInfo = [](OrtTensorTypeAndShapeInfo* info) noexcept {
    --current_fake()->alive;
    delete info;
  };
  api->GetDimensionsCount = [](const OrtTensorTypeAndShapeInfo* info, std::size_t* out) noexcept -> OrtStatus* {
    if (OrtStatus* failed = next_call()) return failed;
    *out = info->extents.size();
    return nullptr;
  };
  api->GetDimensions = [](const OrtTensorTypeAndShapeInfo* info, std::int64_t* out,
                          std::size_t count) noexcept -> OrtStatus* {
    if (OrtStatus* failed = next_call()) return failed;
    for (std::size_t axis = 0; axis < count; ++axis) out[axis] = info->extents[axis];
    return nullptr;
  };
  api->GetSymbolicDimensions = [](const OrtTensorTypeAndShapeInfo* info, const char** out,
                                  std::size_t count) noexcept -> OrtStatus* {
    if (OrtStatus* failed = next_call()) return failed;
    for (std::size_t axis = 0; axis < count; ++axis) {
      out[axis] = axis < info->names.size() ? info->names[axis].c_str() : "";
    }
    return nullptr;
  };
  api->GetTensorMutableData = [](OrtValue* value, void** out) noexcept -> OrtStatus* {
    if (OrtStatus* failed = next_call()) return failed;
    *out = value->data.data();
    return nullptr;
  };
  api->KernelContext_ParallelFor = [](const OrtKernelContext*, void (*task)(void*, std::size_t), std::size_t total,
                                      std::size_t, void* data) noexcept -> OrtStatus* {
    if (OrtStatus* failed = next_call()) return failed;
    for (std::size_t i = 0; i < total; ++i) task(data, i);
    return nullptr;
  };
}

constexpr std::align_val_t kScratchAlignment{256};

// Stands for a GPU's arena.
inline OrtAllocator make_allocator() {
  OrtAllocator allocator = {};
  allocator.Free = [](OrtAllocator*, void* memory) noexcept {
    --current_fake()->alive;
    ::operator delete(memory, kScratchAlignment);
  };
  return allocator;
}

inline void fill_device_functions(OrtApi* api) {
  api->KernelContext_GetGPUComputeStream = [](const OrtKernelContext* context, void** out) noexcept -> OrtStatus* {
    if (OrtStatus* failed = next_call()) return failed;
    *out = context->stream;
    return nullptr;
  };
  api->GetTensorMemoryInfo = [](const OrtValue*, const OrtMemoryInfo** out) noexcept -> OrtStatus* {
    if (OrtStatus* failed = next_call()) return failed;
    *out = &current_fake()->memory;
    return nullptr;
  };
  api->MemoryInfoGetDeviceType = [](const OrtMemoryInfo* memory, OrtMemoryInfoDeviceType* out) noexcept {
    *out = memory->device;
  };
  api->KernelContext_GetAllocator = [](const OrtKernelContext*, const OrtMemoryInfo*,
                                       OrtAllocator** out) noexcept -> OrtStatus* {
    if (OrtStatus* failed = next_call()) return failed;
    ++current_fake()->alive;
    *out = new OrtAllocator(make_allocator());
    return nullptr;
  };
  api->ReleaseAllocator = [](OrtAllocator* allocator) noexcept {
    --current_fake()->alive;
    delete allocator;
  };
  api->KernelContext_GetScratchBuffer = [](const OrtKernelContext*, const OrtMemoryInfo*, std::size_t bytes,
                                           void** out) noexcept -> OrtStatus* {
    if (OrtStatus* failed = next_call()) return failed;
    ++current_fake()->alive;
    current_fake()->scratch_bytes = bytes;
    *out = ::operator new(bytes, kScratchAlignment);
    std::memset(*out, 0xFF, bytes);
    return nullptr;
  };
}

inline Fake::Fake() {
  current_fake() = this;
  fill_status_functions(&api);
  fill_registration_functions(&api);
  fill_option_functions(&api);
  fill_node_functions(&api);
  fill_tensor_functions(&api);
  fill_device_functions(&api);
  base.GetVersionString = []() noexcept -> const char* { return "1.18.1"; };
  base.GetApi = [](std::uint32_t version) noexcept -> const OrtApi* {
    Fake& fake = *current_fake();
    return version <= fake.newest ? &fake.api : nullptr;
  };
}

}  // namespace sn_deploy::testing
