// How an execution provider of ONNX Runtime runs the operators, and which providers a library serves.
#pragma once

#include "onnxruntime/node.h"

namespace sn_deploy::ort {

struct Provider {
  const char* name;  // ONNX Runtime's own
  OrtStatus* (*create)(const OrtApi* api, const OrtKernelInfo* info, const Kind& kind, void** kernel);
  OrtStatus* (*compute)(void* kernel, OrtKernelContext* context);
  void (*destroy)(void* kernel);
  bool blocked;  // the operators of kBlockedDomain, and not those of kDomain
};

// Of a class with `static OrtStatus* create(api, info, kind, K** kernel)` and `OrtStatus* compute(context) const`.
template <typename K>
constexpr Provider provider_of(const char* name, bool blocked = false) {
  return {name,
          [](const OrtApi* api, const OrtKernelInfo* info, const Kind& kind, void** kernel) -> OrtStatus* {
            K* made = nullptr;
            SN_RETURN_IF_ERROR(K::create(api, info, kind, &made));
            *kernel = made;
            return nullptr;
          },
          [](void* kernel, OrtKernelContext* context) { return static_cast<const K*>(kernel)->compute(context); },
          [](void* kernel) { delete static_cast<K*>(kernel); }, blocked};
}

struct Providers {
  const Provider* list;
  int count;  // at most kMostProviders
};

constexpr int kMostProviders = 3;

// Each library has its own.
Providers providers();

}  // namespace sn_deploy::ort
