// The providers of libsn_deploy_ort.so.
#include "onnxruntime/kernel.h"
#include "onnxruntime/provider.h"

namespace sn_deploy::ort {

Providers providers() {
  static constexpr Provider kProviders[] = {provider_of<Kernel>("CPUExecutionProvider"),
                                            provider_of<Kernel>("CPUExecutionProvider", true)};
  return {kProviders, 2};
}

}  // namespace sn_deploy::ort
