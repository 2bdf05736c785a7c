// OrtStatus with a message that names the node, and owners of what ONNX Runtime allocates.
#pragma once

#include "onnxruntime/api.h"

namespace sn_deploy::ort {

// Whose message it is.
struct Where {
  const OrtApi* api;
  const char* op;    // "SwitchNorm"
  const char* node;  // the node's name: for exported files, the layer's
  const char* domain = kDomain;
};

// "sn_deploy::SwitchNorm 'layer1.0.sn1': …", cut at some 500 characters.
__attribute__((format(printf, 2, 3))) OrtStatus* invalid(const Where& where, const char* format, ...);

// The first that fails is returned.
#define SN_RETURN_IF_ERROR(expression)                                               \
  do {                                                                               \
    if (OrtStatus* sn_status = (expression); sn_status != nullptr) return sn_status; \
  } while (false)

// What ONNX Runtime made for us, released at the end of the scope: Owned<OrtTypeInfo> info(api->ReleaseTypeInfo).
template <typename T>
class Owned {
 public:
  using Release = void (*)(T*);
  explicit Owned(Release release_with) : release_(release_with) {}
  ~Owned() {
    if (pointer_ != nullptr) release_(pointer_);
  }
  Owned(const Owned&) = delete;
  Owned& operator=(const Owned&) = delete;

  T** out() { return &pointer_; }
  T* get() const { return pointer_; }
  T* release() {
    T* pointer = pointer_;
    pointer_ = nullptr;
    return pointer;
  }

 private:
  Release release_;
  T* pointer_ = nullptr;
};

}  // namespace sn_deploy::ort
