// What the fake launchers wrote down; found in the plugin's library with dlsym.
#pragma once

#include <cstdint>

#include "sn_deploy/cuda.h"

struct FakeLauncher {
  // To be set by a test.
  std::int32_t list_status = 0;
  std::int32_t choose_status = 0;
  std::int32_t workspace_status = 0;
  std::int32_t refuse_tactic = 0;  // launches of this tactic give kTactic
  std::int32_t launch_status = 0;  // what other launches give
  // Written by the launchers.
  std::int32_t launches = 0;  // that were accepted
  SnCudaProblem listed = {};  // whose tactics were asked for
  SnCudaProblem problem = {};
  SnCudaTensors tensors = {};
  SnCudaTactic tactic = 0;
  void* workspace = nullptr;
  std::int64_t workspace_bytes = 0;
  void* stream = nullptr;
};

inline constexpr SnCudaTactic kFakeTactics[] = {1, 0x802, 4};
inline constexpr SnCudaTactic kFakeChosen = 0x802;
inline constexpr SnCudaTactic kFakeFallback = 4;
