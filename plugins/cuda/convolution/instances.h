// Which of the kernels a launch asks for: once, for nvcc's kernels and for the host's.
#pragma once

#include "cuda/convolution/plan.h"

namespace sn_deploy::cuda {

// make.template operator()<kEpilogue, kDepth, kTiles, kProduct>() of what the launch names; a default result where
// nothing of that kind was made.
template <Epilogue kEpilogue, int kDepth, typename Make>
auto for_tiles(const ConvolutionTactic& tactic, Make make) {
  if (tactic.product == Product::kKept) {
    if (tactic.tiles == 1) return make.template operator()<kEpilogue, kDepth, 1, Product::kKept>();
    if (tactic.tiles == 2) return make.template operator()<kEpilogue, kDepth, 2, Product::kKept>();
    return make.template operator()<kEpilogue, kDepth, 4, Product::kKept>();
  }
  if (tactic.tiles == 1) return make.template operator()<kEpilogue, kDepth, 1, Product::kStreamed>();
  return make.template operator()<kEpilogue, kDepth, 2, Product::kStreamed>();
}

template <Epilogue kEpilogue, typename Make>
auto for_depth(const ConvolutionLaunch& launch, Make make) {
  switch (launch.depth) {
    case 64:
      return for_tiles<kEpilogue, 64>(launch.tactic, make);
    case 128:
      return for_tiles<kEpilogue, 128>(launch.tactic, make);
    case 256:
      return for_tiles<kEpilogue, 256>(launch.tactic, make);
    default:
      return for_tiles<kEpilogue, 512>(launch.tactic, make);
  }
}

// Of the epilogues, the two that a residual block's convolutions to many channels have.
template <typename Make>
auto for_launch(const ConvolutionLaunch& launch, Make make) {
  if (static_cast<Epilogue>(launch.arguments.norm.epilogue) == Epilogue::kAddRelu) {
    return for_depth<Epilogue::kAddRelu>(launch, make);
  }
  return for_depth<Epilogue::kNone>(launch, make);
}

}  // namespace sn_deploy::cuda
