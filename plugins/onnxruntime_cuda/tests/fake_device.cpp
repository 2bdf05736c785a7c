#include "onnxruntime_cuda/tests/fake_device.h"

#include "cuda/device.h"
#include "cuda/tests/host_kernels.h"

namespace sn_deploy::cuda {

namespace test {

FakeDevice& fake_device() {
  static FakeDevice device;
  return device;
}

}  // namespace test

Status current_limits(DeviceLimits* limits) {
  if (!test::fake_device().there) return Status::kDevice;
  *limits = test::fake_device().limits;
  return Status::kOk;
}

Status check_room(const Launch&) { return Status::kOk; }

Status put(const Launch& launch, void* stream) {
  test::FakeDevice& device = test::fake_device();
  if (launch.cluster > 1 && !device.takes_clusters) return Status::kTactic;
  device.launches.push_back(launch);
  device.streams.push_back(stream);
  test::run(launch);
  return Status::kOk;
}

const char* device_error() { return "no such device"; }

}  // namespace sn_deploy::cuda
