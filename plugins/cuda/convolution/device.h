// As cuda/device.h, for the convolution; the tests have the same functions over the host.
#pragma once

#include "cuda/convolution/plan.h"
#include "cuda/device.h"

namespace sn_deploy::cuda {

// Whether the device has room for a launch's cluster with this much memory a block: kTactic where it has none.
Status check_convolution_room(const ConvolutionLaunch& launch);

// Puts a launch on the stream, a cudaStream_t. kTactic where its cluster has no room, or there is no kernel for it.
Status put_convolution(const ConvolutionLaunch& launch, void* stream);

}  // namespace sn_deploy::cuda
