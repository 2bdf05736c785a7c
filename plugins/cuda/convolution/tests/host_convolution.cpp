// device.h over the host.
#include <mutex>

#include "cuda/convolution/device.h"
#include "cuda/convolution/instances.h"
#include "cuda/convolution/kernel.h"
#include "cuda/convolution/tests/host_matrix.h"

namespace sn_deploy::cuda {
namespace {

std::mutex one_at_a_time;  // fibers have one scheduler

template <typename T>
struct Run {
  const ConvolutionLaunch& launch;

  template <Epilogue kEpilogue, int kDepth, int kTiles, Product kProduct>
  Status operator()() const {
    test::run_grid({launch.grid, launch.cluster, launch.threads, launch.shared_bytes}, [this](test::HostTeam& team) {
      convolve<T, kEpilogue, kDepth, kTiles, kProduct>(team, launch.arguments);
    });
    return Status::kOk;
  }
};

}  // namespace

Status check_convolution_room(const ConvolutionLaunch&) { return Status::kOk; }

Status put_convolution(const ConvolutionLaunch& launch, void*) {
  const std::lock_guard<std::mutex> lock(one_at_a_time);
  return for_launch(launch, Run<__half>{launch});
}

}  // namespace sn_deploy::cuda
