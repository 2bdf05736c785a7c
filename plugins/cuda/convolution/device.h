// As cuda/device.h, for the convolution; the tests have the same function over the host.
#pragma once

#include "cuda/convolution/plan.h"
#include "cuda/device.h"

namespace sn_deploy::cuda {

// Puts a launch on the stream, a cudaStream_t. kTactic where its cluster has no room, or there is no kernel for it.
Status put_convolution(const ConvolutionLaunch& launch, void* stream);

}  // namespace sn_deploy::cuda
