// The library's one function: RegisterCustomOps, which ONNX Runtime calls for each SessionOptions that names the
// library. Every custom-op library has one of that name, so programs that link to this one get another.
#include <cstddef>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <mutex>
#include <new>

#include "onnxruntime/api.h"
#include "onnxruntime/operators.h"
#include "onnxruntime/status.h"
#include "sn_deploy/onnxruntime.h"

namespace sn_deploy::ort {
namespace {

// Domains must outlive all sessions, and nothing tells when the last one ends: those for each ONNX Runtime in the
// process, as a rule the only one, are kept to the end. So the library is linked never to be unloaded.
struct Registered {
  const OrtApi* api;
  char version[32];               // a copy: that ONNX Runtime may be unloaded, and another one take its place
  OrtCustomOpDomain* domains[2];  // kDomain; kBlockedDomain, or null
  Operator operators[kMostProviders * kOperators];
  Registered* next;
};

std::mutex registered_mutex;
Registered* registered = nullptr;

OrtStatus* make_registered(const OrtApi* api, const char* version, Registered** result) {
  std::unique_ptr<Registered> made(new (std::nothrow) Registered{});
  if (made == nullptr) return api->CreateStatus(ORT_FAIL, "out of memory");
  made->api = api;
  std::snprintf(made->version, sizeof made->version, "%s", version);
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
    for (int j = 0; j < count; ++j) {
      operators[j].runtime = made->version;
      SN_RETURN_IF_ERROR(api->CustomOpDomain_Add(domain.get(), &operators[j]));
    }
  }
  made->domains[0] = plain.release();
  made->domains[1] = blocked.release();
  *result = made.release();
  return nullptr;
}

OrtStatus* registered_of(const OrtApi* api, const char* version, const Registered** result) {
  const std::lock_guard<std::mutex> lock(registered_mutex);
  Registered* own = registered;
  while (own != nullptr && (own->api != api || std::strcmp(own->version, version) != 0)) own = own->next;
  if (own == nullptr) {
    SN_RETURN_IF_ERROR(make_registered(api, version, &own));
    own->next = registered;
    registered = own;
  }
  *result = own;
  return nullptr;
}

// A session takes a domain once. So the options are marked with how many providers have been registered, and the
// library with more of them has all that the other one has.
constexpr const char* kMark = "sn_deploy.providers";

OrtStatus* providers_of(const OrtApi* api, const OrtSessionOptions* options, int* count) {
  *count = 0;
  int marked = 0;
  SN_RETURN_IF_ERROR(api->HasSessionConfigEntry(options, kMark, &marked));
  if (marked == 0) return nullptr;
  char text[16] = "";
  std::size_t size = sizeof text;
  if (OrtStatus* status = api->GetSessionConfigEntry(options, kMark, text, &size)) {
    api->ReleaseStatus(status);  // no mark of ours
    text[0] = '\0';
  }
  *count = static_cast<int>(std::strtol(text, nullptr, 10));
  if (*count >= providers().count) return nullptr;
  return api->CreateStatus(ORT_INVALID_ARGUMENT,
                           "register one of sn_deploy's libraries alone: libsn_deploy_ort_cuda.so has all that is in "
                           "libsn_deploy_ort.so, which has been registered with these options before");
}

OrtStatus* mark(const OrtApi* api, OrtSessionOptions* options) {
  char text[16];
  std::snprintf(text, sizeof text, "%d", providers().count);
  return api->AddSessionConfigEntry(options, kMark, text);
}

OrtStatus* add_domains(const OrtApi* api, const char* version, OrtSessionOptions* options) {
  int before = 0;
  SN_RETURN_IF_ERROR(providers_of(api, options, &before));
  if (before > 0) return nullptr;
  const Registered* own = nullptr;
  SN_RETURN_IF_ERROR(registered_of(api, version, &own));
  for (OrtCustomOpDomain* domain : own->domains) {
    if (domain != nullptr) SN_RETURN_IF_ERROR(api->AddCustomOpDomain(options, domain));
  }
  return mark(api, options);
}

}  // namespace
}  // namespace sn_deploy::ort

OrtStatus* sn_ort_register(OrtSessionOptions* options, const OrtApiBase* base) {
  using sn_deploy::ort::kApiVersion;
  const OrtApi* api = base->GetApi(kApiVersion);
  if (api == nullptr) {
    // The first version's functions never moved, and CreateStatus is among them.
    const OrtApi* oldest = base->GetApi(1);
    if (oldest == nullptr) return nullptr;
    return oldest->CreateStatus(ORT_FAIL, "sn_deploy's operators need ONNX Runtime 1.18 or later");
  }
  return sn_deploy::ort::add_domains(api, base->GetVersionString(), options);
}

extern "C" __attribute__((visibility("default"))) OrtStatus* RegisterCustomOps(OrtSessionOptions* options,
                                                                               const OrtApiBase* base) {
  return sn_ort_register(options, base);
}
