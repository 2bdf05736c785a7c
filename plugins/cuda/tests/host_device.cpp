// device.h over the host: with it the C interface runs, kernels and all, where no GPU is. Tests of the Python side, and
// of what calls the launchers, are held against it before they see a GPU.
#include <mutex>

#include "cuda/device.h"
#include "cuda/tests/host_kernels.h"

namespace sn_deploy::cuda {
namespace {

// A small device with the features of a large one.
constexpr DeviceLimits kHost = {8, 227 * 1024, 16, true};

std::mutex one_at_a_time;  // fibers have one scheduler

}  // namespace

Status current_limits(DeviceLimits* limits) {
  *limits = kHost;
  return Status::kOk;
}

Status check_room(const Launch&) { return Status::kOk; }

// Done when it returns, whatever the stream.
Status put(const Launch& launch, void*) {
  const std::lock_guard<std::mutex> lock(one_at_a_time);
  test::run(launch);
  return Status::kOk;
}

const char* device_error() { return "no error"; }

}  // namespace sn_deploy::cuda
