// The library's one symbol, which ONNX Runtime calls for each SessionOptions that names the library.
#include <memory>
#include <mutex>
#include <new>

#include "onnxruntime/api.h"
#include "onnxruntime/operators.h"
#include "onnxruntime/status.h"

namespace sn_deploy::ort {
namespace {

// Domains must outlive all sessions, and nothing tells when the last one ends: those for each ONNX Runtime in the
// process, as a rule the only one, are kept to the end.
struct Registered {
  const OrtApi* api;
  OrtCustomOpDomain* domains[2];  // kDomain; kBlockedDomain, or null
  Operator operators[kMostProviders * kOperators];
  Registered* next;
};

std::mutex registered_mutex;
Registered* registered = nullptr;

OrtStatus* make_registered(const OrtApi* api, Registered** result) {
  std::unique_ptr<Registered> made(new (std::nothrow) Registered{});
  if (made == nullptr) return api->CreateStatus(ORT_FAIL, "out of memory");
  made->api = api;
  Owned<OrtCustomOpDomain> plain(api->ReleaseCustomOpDomain);
  Owned<OrtCustomOpDomain> blocked(api->ReleaseCustomOpDomain);
  const Providers own = providers();
  for (int i = 0; i < own.count; ++i) {
    Owned<OrtCustomOpDomain>& domain = own.list[i].blocked ? blocked : plain;
    if (domain.get() == nullptr) {
      SN_RETURN_IF_ERROR(api->CreateCustomOpDomain(own.list[i].blocked ? kBlockedDomain : kDomain, domain.out()));
    }
    Operator* operators = made->operators + i * kOperators;
    const int count = make_operators(api, own.list[i], operators);
    for (int j = 0; j < count; ++j) SN_RETURN_IF_ERROR(api->CustomOpDomain_Add(domain.get(), &operators[j]));
  }
  made->domains[0] = plain.release();
  made->domains[1] = blocked.release();
  *result = made.release();
  return nullptr;
}

OrtStatus* registered_of(const OrtApi* api, const Registered** result) {
  const std::lock_guard<std::mutex> lock(registered_mutex);
  Registered* own = registered;
  while (own != nullptr && own->api != api) own = own->next;
  if (own == nullptr) {
    SN_RETURN_IF_ERROR(make_registered(api, &own));
    own->next = registered;
    registered = own;
  }
  *result = own;
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
  const sn_deploy::ort::Registered* own = nullptr;
  SN_RETURN_IF_ERROR(sn_deploy::ort::registered_of(api, &own));
  for (OrtCustomOpDomain* domain : own->domains) {
    if (domain != nullptr) SN_RETURN_IF_ERROR(api->AddCustomOpDomain(options, domain));
  }
  return nullptr;
}
