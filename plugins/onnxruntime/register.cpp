// The library's one symbol, which ONNX Runtime calls for each SessionOptions that names the library.
#include <memory>
#include <mutex>
#include <new>

#include "onnxruntime/api.h"
#include "onnxruntime/operators.h"
#include "onnxruntime/status.h"

namespace sn_deploy::ort {
namespace {

// A domain must outlive all sessions, and nothing tells when the last one ends: one for each ONNX Runtime in the
// process, as a rule the only one, is kept to the end.
struct Registered {
  const OrtApi* api;
  OrtCustomOpDomain* domain;
  Operator operators[kMostProviders * kOperators];
  Registered* next;
};

std::mutex registered_mutex;
Registered* registered = nullptr;

OrtStatus* make_registered(const OrtApi* api, Registered** result) {
  std::unique_ptr<Registered> made(new (std::nothrow) Registered{});
  if (made == nullptr) return api->CreateStatus(ORT_FAIL, "out of memory");
  made->api = api;
  const Providers own = providers();
  for (int i = 0; i < own.count; ++i) make_operators(api, own.list[i], made->operators + i * kOperators);
  Owned<OrtCustomOpDomain> domain(api->ReleaseCustomOpDomain);
  SN_RETURN_IF_ERROR(api->CreateCustomOpDomain(kDomain, domain.out()));
  for (int i = 0; i < own.count * kOperators; ++i) {
    SN_RETURN_IF_ERROR(api->CustomOpDomain_Add(domain.get(), &made->operators[i]));
  }
  made->domain = domain.release();
  *result = made.release();
  return nullptr;
}

OrtStatus* domain_of(const OrtApi* api, OrtCustomOpDomain** domain) {
  const std::lock_guard<std::mutex> lock(registered_mutex);
  Registered* own = registered;
  while (own != nullptr && own->api != api) own = own->next;
  if (own == nullptr) {
    SN_RETURN_IF_ERROR(make_registered(api, &own));
    own->next = registered;
    registered = own;
  }
  *domain = own->domain;
  return nullptr;
}

}  // namespace
}  // namespace sn_deploy::ort

extern "C" __attribute__((visibility("default"))) OrtStatus* RegisterCustomOps(OrtSessionOptions* options,
                                                                               const OrtApiBase* base) {
  using sn_deploy::ort::kApiVersion;
  const OrtApi* api = base->GetApi(kApiVersion);
  if (api == nullptr) {
    // The first version's functions never moved, and CreateStatus is among them.
    const OrtApi* oldest = base->GetApi(1);
    if (oldest == nullptr) return nullptr;
    return oldest->CreateStatus(ORT_FAIL, "sn_deploy's operators need ONNX Runtime 1.18 or later");
  }
  OrtCustomOpDomain* domain = nullptr;
  SN_RETURN_IF_ERROR(sn_deploy::ort::domain_of(api, &domain));
  return api->AddCustomOpDomain(options, domain);
}
