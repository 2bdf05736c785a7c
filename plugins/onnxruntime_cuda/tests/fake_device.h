// A device that runs launches on the host, writes them down, and fails when told to.
#pragma once

#include <vector>

#include "cuda/prepare.h"

namespace sn_deploy::cuda::test {

struct FakeDevice {
  // To be set by a test.
  DeviceLimits limits = {8, 100 * 1024, 8, true};
  bool there = true;
  bool takes_clusters = true;  // else their launches give kTactic
  // Written.
  std::vector<Launch> launches;
  std::vector<void*> streams;
};

FakeDevice& fake_device();

}  // namespace sn_deploy::cuda::test
