// device.cpp, and launch.cpp above it, over a CUDA of the test's own: what is made of a device's answers, what reaches
// CUDA, and which refusals leave another tactic to be tried. Nothing of CUDA is linked in.
#include <cuda_runtime_api.h>
#include <gtest/gtest.h>

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <initializer_list>
#include <memory>
#include <string>
#include <vector>

#include "cuda/device.h"
#include "cuda/kernels/instances.h"
#include "cuda/tactic.h"
#include "cuda/tests/requests.h"
#include "sn_deploy/cuda.h"

namespace {

struct Launched {
  const void* kernel;
  cudaLaunchConfig_t config;
  std::vector<cudaLaunchAttributeID> attributes;
  unsigned cluster;
  bool off;  // an attribute that is given and says no
};

struct Gpu {
  // What the device answers.
  int device = 0;
  int multiprocessors = 132, shared_bytes = 227 * 1024, clusters = 1, cooperative = 1;
  int ptx = 90;  // that the kernels have code of
  int clusters_at_once = 1;
  int largest_cluster = 16;
  cudaError_t device_error = cudaSuccess, attribute_error = cudaSuccess, memset_error = cudaSuccess;
  // What launches answer, and whether it stays the answer to everything, as after an illegal access.
  cudaError_t launch_error = cudaSuccess;
  bool sticky = false;
  cudaError_t last = cudaSuccess;

  // What it was asked for.
  int asked = 0;
  std::vector<int> shared_allowed;
  int non_portable = 0;
  std::size_t zeroed = 0;
  std::vector<Launched> launches;
} gpu;

cudaError_t answer(cudaError_t error) {
  if (error != cudaSuccess) gpu.last = error;
  return error;
}

// Kernels that are never run, each at an address of its own.
sn_deploy::cuda::Kernels no_kernels(std::uintptr_t type) {
  using sn_deploy::cuda::Kernel;
  sn_deploy::cuda::Kernels table;
  constexpr std::uintptr_t kCount = sizeof table / sizeof(Kernel);
  Kernel kernels[kCount];
  for (std::uintptr_t i = 0; i < kCount; ++i) kernels[i] = reinterpret_cast<Kernel>((type * kCount + i + 1) * 16);
  std::memcpy(&table, kernels, sizeof table);
  return table;
}

}  // namespace

namespace sn_deploy::cuda {
Kernels float32_kernels() { return no_kernels(0); }
Kernels float16_kernels() { return no_kernels(1); }
Kernels bfloat16_kernels() { return no_kernels(2); }
}  // namespace sn_deploy::cuda

extern "C" {
cudaError_t cudaGetDevice(int* device) {
  *device = gpu.device;
  return answer(gpu.device_error);
}
cudaError_t cudaDeviceGetAttribute(int* value, cudaDeviceAttr attribute, int) {
  ++gpu.asked;
  *value = attribute == cudaDevAttrMultiProcessorCount            ? gpu.multiprocessors
           : attribute == cudaDevAttrMaxSharedMemoryPerBlockOptin ? gpu.shared_bytes
           : attribute == cudaDevAttrClusterLaunch                ? gpu.clusters
           : attribute == cudaDevAttrCooperativeLaunch            ? gpu.cooperative
                                                                  : -1;
  return answer(gpu.attribute_error);
}
cudaError_t cudaFuncGetAttributes(cudaFuncAttributes* attributes, const void*) {
  *attributes = {};
  attributes->ptxVersion = gpu.ptx;
  return cudaSuccess;
}
cudaError_t cudaFuncSetAttribute(const void*, cudaFuncAttribute attribute, int value) {
  if (attribute == cudaFuncAttributeMaxDynamicSharedMemorySize) gpu.shared_allowed.push_back(value);
  if (attribute == cudaFuncAttributeNonPortableClusterSizeAllowed) gpu.non_portable += value;
  return cudaSuccess;
}
cudaError_t cudaOccupancyMaxActiveClusters(int* clusters, const void*, const cudaLaunchConfig_t* config) {
  const bool fits = static_cast<int>(config->attrs[0].val.clusterDim.x) <= gpu.largest_cluster;
  *clusters = fits ? gpu.clusters_at_once : 0;
  return cudaSuccess;
}
cudaError_t cudaMemsetAsync(void*, int, std::size_t bytes, cudaStream_t) {
  gpu.zeroed += bytes;
  return answer(gpu.memset_error);
}
cudaError_t cudaLaunchKernelExC(const cudaLaunchConfig_t* config, const void* kernel, void**) {
  Launched launched = {kernel, *config, {}, 1, false};
  for (unsigned i = 0; i < config->numAttrs; ++i) {
    launched.attributes.push_back(config->attrs[i].id);
    const cudaLaunchAttributeValue& value = config->attrs[i].val;
    if (config->attrs[i].id == cudaLaunchAttributeClusterDimension) {
      launched.cluster = value.clusterDim.x * value.clusterDim.y * value.clusterDim.z;
    } else {
      const int on = config->attrs[i].id == cudaLaunchAttributeCooperative
                         ? value.cooperative
                         : value.programmaticStreamSerializationAllowed;
      launched.off = launched.off || on != 1;
    }
  }
  gpu.launches.push_back(launched);
  return answer(gpu.launch_error);
}
cudaError_t cudaGetLastError() {
  const cudaError_t error = gpu.last;
  if (!gpu.sticky) gpu.last = cudaSuccess;
  return error;
}
const char* cudaGetErrorString(cudaError_t) { return "refused"; }
}

namespace sn_deploy::cuda::test {
namespace {

Launch launch_of(KernelKind kind, std::int32_t cluster, bool cooperative) {
  Launch launch = {};
  launch.kind = kind;
  launch.grid = 8;
  launch.threads = 256;
  launch.cluster = cluster;
  launch.cooperative = cooperative;
  return launch;
}

// Each test has a device of its own: what a device answers is asked for once.
class Device : public testing::Test {
 protected:
  void SetUp() override {
    static int devices = 0;
    gpu = {};
    gpu.device = devices++;
  }

  static DeviceLimits limits() {
    DeviceLimits limits;
    EXPECT_EQ(current_limits(&limits), Status::kOk);
    return limits;
  }

  static std::string offered(const SnCudaProblem& problem, std::int32_t capacity = 16) {
    std::vector<SnCudaTactic> tactics(16, -1);
    std::int32_t count = -1;
    EXPECT_EQ(sn_cuda_list_tactics(&problem, tactics.data(), capacity, &count), 0);
    std::string text;
    for (std::int32_t i = 0; i < count; ++i) {
      const SnCudaTactic code = tactics[static_cast<std::size_t>(i)];
      text += (i == 0 ? "" : ", ") + std::to_string(code % 256) + "/" + std::to_string(code / 256);
    }
    return text;
  }

  static std::string chosen(const SnCudaProblem& problem) {
    SnCudaTactic code = -1;
    EXPECT_EQ(sn_cuda_choose_tactic(&problem, &code), 0);
    return std::to_string(code % 256) + "/" + std::to_string(code / 256);
  }
};

// --- What the device can do ---------------------------------------------------------------------------------------

TEST_F(Device, IsAskedOnce) {
  EXPECT_EQ(limits().multiprocessors, 132);
  const int asked = gpu.asked;
  EXPECT_GT(asked, 0);
  gpu.multiprocessors = 1;
  EXPECT_EQ(limits().multiprocessors, 132);
  EXPECT_EQ(gpu.asked, asked);
  gpu.device = 1000;  // of more devices than are kept
  EXPECT_EQ(limits().multiprocessors, 1);
  gpu.multiprocessors = 2;
  EXPECT_EQ(limits().multiprocessors, 2);
}

// What the kernels have code for decides, not what the device is.
TEST_F(Device, HasClustersOrCooperativeLaunches) {
  struct {
    int ptx, clusters, cooperative;
    int max_cluster;
    bool cooperates;
  } const all[] = {{90, 1, 1, 16, false}, {100, 1, 1, 16, false}, {89, 1, 1, 1, true},
                   {80, 0, 1, 1, true},   {90, 0, 1, 1, false},   {75, 0, 0, 1, false}};
  for (const auto& each : all) {
    SetUp();
    gpu.ptx = each.ptx;
    gpu.clusters = each.clusters;
    gpu.cooperative = each.cooperative;
    EXPECT_EQ(limits().max_cluster, each.max_cluster) << each.ptx;
    EXPECT_EQ(limits().cooperative, each.cooperates) << each.ptx;
    EXPECT_EQ(limits().shared_bytes, 227 * 1024);
  }
}

// The workspace is planned for no more.
TEST_F(Device, MayBeLargerThanWhatIsPlannedFor) {
  gpu.multiprocessors = 1000;
  gpu.shared_bytes = 1 << 20;
  EXPECT_EQ(limits().multiprocessors, kMostMultiprocessors);
  EXPECT_EQ(limits().shared_bytes, widest_limits().shared_bytes);
}

TEST_F(Device, ThatIsNotThereIsTheDevicesError) {
  const SnCudaProblem problem = half_problem_of(1, 64, 3136);
  SnCudaTactic tactic = 0;
  std::int32_t count = -1;
  std::int64_t bytes = -1;
  for (cudaError_t* error : {&gpu.device_error, &gpu.attribute_error}) {
    SetUp();
    *error = cudaErrorNoDevice;
    EXPECT_EQ(sn_cuda_list_tactics(&problem, &tactic, 1, &count), as_int(Status::kDevice));
    EXPECT_EQ(sn_cuda_choose_tactic(&problem, &tactic), as_int(Status::kDevice));
    EXPECT_EQ(sn_cuda_tactic_workspace_bytes(&problem, 4, &bytes), as_int(Status::kDevice));
    EXPECT_STREQ(sn_cuda_device_error(), "refused");
    EXPECT_EQ(gpu.last, cudaSuccess) << "the caller's next check would find it";
    *error = cudaSuccess;
    EXPECT_EQ(sn_cuda_choose_tactic(&problem, &tactic), 0);  // nothing of the error is kept
  }
}

// --- What is offered and chosen -----------------------------------------------------------------------------------

TEST_F(Device, IsOfferedTheClustersItHasRoomFor) {
  const SnCudaProblem problem = half_problem_of(1, 64, 3136);
  EXPECT_EQ(offered(problem), "1/0, 2/2, 2/4, 2/8, 2/16, 4/0");
  gpu.largest_cluster = 8;
  EXPECT_EQ(offered(problem), "1/0, 2/2, 2/4, 2/8, 4/0");
  EXPECT_EQ(offered(problem, 2), "1/0, 2/2");
  EXPECT_EQ(offered(problem, 0), "");
  gpu.clusters_at_once = 0;
  EXPECT_EQ(offered(problem), "1/0, 4/0");
  EXPECT_EQ(offered(half_problem_of(0, 64, 3136)), "1/0, 2/2, 2/4, 2/8, 2/16, 4/0");  // nothing will be launched
}

// Larger ones may find no room, and nothing is asked or timed here.
TEST_F(Device, ChoosesNoClusterThatMayFindNoRoom) {
  EXPECT_EQ(chosen(half_problem_of(1, 64, 3136)), "2/8");
  EXPECT_EQ(chosen(half_problem_of(128, 2048, 49)), "1/0");
}

TEST_F(Device, KnowsATacticsOwnWorkspace) {
  gpu.ptx = 80;
  const SnCudaProblem problem = half_problem_of(8, 64, 3136);
  std::int64_t all = 0;
  ASSERT_EQ(sn_cuda_workspace_bytes(&problem, &all), 0);
  for (const auto& [code, needs] : {std::pair{1, false}, {8 * 256 + 3, true}, {2 * 256 + 5, true}, {4, true}}) {
    std::int64_t bytes = -1;
    EXPECT_EQ(sn_cuda_tactic_workspace_bytes(&problem, code, &bytes), 0) << code;
    EXPECT_EQ(bytes > 0, needs) << code;
    EXPECT_LE(bytes, all) << code;
  }
  std::int64_t bytes = -1;
  EXPECT_EQ(sn_cuda_tactic_workspace_bytes(&problem, 8 * 256 + 2, &bytes), as_int(Status::kTactic));
  EXPECT_EQ(bytes, -1);
}

// --- What is launched ---------------------------------------------------------------------------------------------

struct Tensors {
  alignas(128) unsigned char memory[256] = {};
  SnCudaTensors list = {memory,
                        reinterpret_cast<float*>(memory),
                        reinterpret_cast<float*>(memory),
                        reinterpret_cast<float*>(memory),
                        reinterpret_cast<float*>(memory),
                        nullptr,
                        memory};
};

TEST_F(Device, IsGivenTheLaunchOfATactic) {
  const Tensors tensors;
  const SnCudaProblem problem = half_problem_of(2, 64, 3136);
  ASSERT_EQ(sn_cuda_launch(&problem, &tensors.list, 4 * 256 + 2, nullptr, 0, nullptr), 0);
  ASSERT_EQ(gpu.launches.size(), 1U);
  const Launched& cluster = gpu.launches[0];
  EXPECT_EQ(cluster.cluster, 4U);
  EXPECT_EQ(cluster.config.gridDim.x, 8U);
  // It may begin while what is before it still runs, and waits for it itself.
  EXPECT_EQ(cluster.attributes,
            (std::vector<cudaLaunchAttributeID>{cudaLaunchAttributeClusterDimension,
                                                cudaLaunchAttributeProgrammaticStreamSerialization}));
  EXPECT_GT(cluster.config.dynamicSmemBytes, 48U * 1024);
  EXPECT_EQ(gpu.shared_allowed, std::vector<int>{227 * 1024});  // all there is: the function's, not the launch's
  EXPECT_EQ(gpu.non_portable, 0);
  ASSERT_EQ(sn_cuda_launch(&problem, &tensors.list, 16 * 256 + 2, nullptr, 0, nullptr), 0);
  EXPECT_EQ(gpu.launches.back().cluster, 16U);
  EXPECT_EQ(gpu.non_portable, 1);
  gpu.largest_cluster = 8;
  EXPECT_EQ(sn_cuda_launch(&problem, &tensors.list, 16 * 256 + 2, nullptr, 0, nullptr), as_int(Status::kTactic));
  EXPECT_EQ(gpu.launches.size(), 2U);
}

TEST_F(Device, OfOlderCodeIsGivenCooperativeLaunchesBehindTheirZeroes) {
  gpu.ptx = 80;
  const Tensors tensors;
  const SnCudaProblem problem = half_problem_of(1, 64, 49);
  alignas(128) static unsigned char workspace[1 << 14];
  const auto launch = [&](SnCudaTactic tactic, void* at, std::int64_t bytes) {
    return sn_cuda_launch(&problem, &tensors.list, tactic, at, bytes, nullptr);
  };
  constexpr SnCudaTactic kEightBlocks = 8 * 256 + 3;
  std::int64_t bytes = 0;
  ASSERT_EQ(sn_cuda_tactic_workspace_bytes(&problem, kEightBlocks, &bytes), 0);
  for (const std::int32_t status : {launch(kEightBlocks, nullptr, bytes), launch(kEightBlocks, workspace, bytes - 1),
                                    launch(kEightBlocks, workspace + 64, bytes)}) {
    EXPECT_EQ(status, as_int(Status::kWorkspace));
  }
  EXPECT_TRUE(gpu.launches.empty());
  EXPECT_EQ(gpu.zeroed, 0U);
  ASSERT_EQ(launch(kEightBlocks, workspace, bytes), 0);
  ASSERT_EQ(gpu.launches.size(), 1U);
  EXPECT_EQ(gpu.launches[0].config.gridDim.x, 8U);
  EXPECT_EQ(gpu.launches[0].attributes, std::vector<cudaLaunchAttributeID>{cudaLaunchAttributeCooperative});
  EXPECT_EQ(gpu.zeroed, static_cast<std::size_t>(kBarrierBytes));
  EXPECT_TRUE(gpu.shared_allowed.empty());
  // No code before 9.0 waits for what is before it.
  ASSERT_EQ(launch(4, workspace, sizeof workspace), 0);
  ASSERT_EQ(gpu.launches.size(), 3U);
  EXPECT_TRUE(gpu.launches[1].attributes.empty());
  EXPECT_TRUE(gpu.launches[2].attributes.empty());
  gpu.memset_error = cudaErrorIllegalAddress;
  EXPECT_EQ(launch(kEightBlocks, workspace, bytes), as_int(Status::kDevice));
  EXPECT_EQ(gpu.launches.size(), 3U) << "behind an error nothing is launched";
}

TEST_F(Device, IsGivenVectorsWhereEveryAddressAllowsThem) {
  Tensors tensors;
  tensors.list.residual = tensors.memory;
  SnCudaProblem problem = half_problem_of(1, 64, 64);
  problem.epilogue = 2;
  const auto kernel = [&] {
    EXPECT_EQ(sn_cuda_launch(&problem, &tensors.list, 1, nullptr, 0, nullptr), 0);
    return gpu.launches.back().kernel;
  };
  const void* const vectors = reinterpret_cast<const void*>(float16_kernels().fused[1][2][0][1]);
  EXPECT_EQ(kernel(), vectors);
  const void** const read[] = {&tensors.list.x, &tensors.list.residual};
  for (const void** address : read) {
    *address = tensors.memory + 8;
    EXPECT_NE(kernel(), vectors);
    *address = tensors.memory;
  }
  tensors.list.y = tensors.memory + 2;
  EXPECT_NE(kernel(), vectors);
  tensors.list.y = tensors.memory;
  problem.spatial = 63;
  EXPECT_NE(kernel(), vectors);
}

// The kernel of each kind, type, layout and epilogue.
TEST_F(Device, IsGivenTheKernelThatWasAskedFor) {
  const auto put_one = [](Launch launch) {
    EXPECT_EQ(put(launch, nullptr), Status::kOk);
    return gpu.launches.back().kernel;
  };
  const auto address = [](Kernel kernel) { return reinterpret_cast<const void*>(kernel); };
  for (const DataType type : {DataType::kFloat32, DataType::kFloat16, DataType::kBfloat16}) {
    const Kernels kernels = type == DataType::kFloat32   ? float32_kernels()
                            : type == DataType::kFloat16 ? float16_kernels()
                                                         : bfloat16_kernels();
    for (int i = 0; i < 48; ++i) {
      const int vector = i % 2, layout = i / 2 % 2, resident = i / 4 % 2, spatial = i / 8 % 2, epilogue = i / 16;
      const auto of_kind = [&](KernelKind kind) {
        Launch launch = launch_of(kind, 1, false);
        launch.type = type;
        launch.layout = static_cast<Layout>(layout);
        launch.vector = vector == 1;
        launch.resident = resident == 1;
        launch.arguments.epilogue = epilogue;
        launch.arguments.split = spatial;
        return put_one(launch);
      };
      const int form = resident == 0 ? 0 : 1 + spatial;
      EXPECT_EQ(of_kind(KernelKind::kFused), address(kernels.fused[form][epilogue][layout][vector]));
      EXPECT_EQ(of_kind(KernelKind::kStatistics), address(kernels.statistics[resident][layout][vector]));
      EXPECT_EQ(of_kind(KernelKind::kNormalize), address(kernels.normalize[epilogue][layout][vector]));
      EXPECT_EQ(of_kind(KernelKind::kQueue), address(kernels.queue[epilogue][layout]));
      EXPECT_EQ(of_kind(KernelKind::kZero), address(kernels.zero));
      EXPECT_EQ(of_kind(KernelKind::kRow), address(kernels.row[vector]));
    }
  }
}

TEST_F(Device, IsGivenWhatALaunchSays) {
  Launch launch = launch_of(KernelKind::kQueue, 1, false);
  auto* const stream = reinterpret_cast<cudaStream_t>(0x40);
  launch.shared_bytes = 48 * 1024;
  ASSERT_EQ(put(launch, stream), Status::kOk);
  const Launched& first = gpu.launches[0];
  EXPECT_EQ(first.config.gridDim.x, 8U);
  EXPECT_EQ(first.config.blockDim.x, 256U);
  EXPECT_EQ(first.config.stream, stream);
  EXPECT_EQ(first.attributes, std::vector<cudaLaunchAttributeID>{cudaLaunchAttributeProgrammaticStreamSerialization});
  EXPECT_FALSE(first.off);
  EXPECT_TRUE(gpu.shared_allowed.empty());
  launch.shared_bytes += 16;  // above what every kernel may have
  ASSERT_EQ(put(launch, stream), Status::kOk);
  EXPECT_EQ(gpu.shared_allowed.size(), 1U);
  // Behind a memset there is nothing to begin before.
  launch.zeroed_bytes = 128;
  ASSERT_EQ(put(launch, stream), Status::kOk);
  EXPECT_TRUE(gpu.launches.back().attributes.empty());
  ASSERT_EQ(put(launch_of(KernelKind::kFused, 1, true), stream), Status::kOk);
  EXPECT_EQ(gpu.launches.back().attributes, std::vector<cudaLaunchAttributeID>{cudaLaunchAttributeCooperative});
  EXPECT_FALSE(gpu.launches.back().off);
}

// The counters first.
TEST_F(Device, IsGivenAQueueBehindItsCounters) {
  const Tensors tensors;
  const SnCudaProblem problem = half_problem_of(2, 64, 3136);
  std::vector<unsigned char> memory(1 << 20);
  void* workspace = memory.data();
  std::size_t room = memory.size();
  ASSERT_NE(std::align(128, memory.size() / 2, workspace, room), nullptr);
  ASSERT_EQ(sn_cuda_launch(&problem, &tensors.list, 2 * 256 + 5, workspace, 1 << 19, nullptr), 0);
  ASSERT_EQ(gpu.launches.size(), 2U);
  EXPECT_EQ(gpu.launches[0].kernel, reinterpret_cast<const void*>(float16_kernels().zero));
  EXPECT_EQ(gpu.launches[1].kernel, reinterpret_cast<const void*>(float16_kernels().queue[0][0]));
  EXPECT_EQ(gpu.zeroed, 0U);
}

TEST_F(Device, NothingIsLaunchedBehindALaunchThatFailed) {
  const Tensors tensors;
  const SnCudaProblem problem = half_problem_of(1, 64, 49);
  alignas(128) static unsigned char workspace[1 << 14];
  gpu.launch_error = cudaErrorNoKernelImageForDevice;
  EXPECT_EQ(sn_cuda_launch(&problem, &tensors.list, 4, workspace, sizeof workspace, nullptr), as_int(Status::kDevice));
  EXPECT_EQ(gpu.launches.size(), 1U);
}

// --- Refusals -----------------------------------------------------------------------------------------------------

// A part of the device (MPS, a green context) may have no room for blocks that have to run at once.
TEST_F(Device, BlocksThatHaveToRunAtOnceMayFindNoRoom) {
  EXPECT_EQ(put(launch_of(KernelKind::kFused, 8, false), nullptr), Status::kOk);
  EXPECT_EQ(put(launch_of(KernelKind::kFused, 1, true), nullptr), Status::kOk);
  gpu.launch_error = cudaErrorInvalidClusterSize;
  EXPECT_EQ(put(launch_of(KernelKind::kFused, 8, false), nullptr), Status::kTactic);
  EXPECT_EQ(gpu.last, cudaSuccess) << "the caller's next check would find it";
  gpu.launch_error = cudaErrorCooperativeLaunchTooLarge;
  EXPECT_EQ(put(launch_of(KernelKind::kFused, 1, true), nullptr), Status::kTactic);
}

TEST_F(Device, WhatEveryTacticMeetsIsTheDevicesError) {
  gpu.launch_error = cudaErrorNoKernelImageForDevice;
  EXPECT_EQ(put(launch_of(KernelKind::kNormalize, 1, false), nullptr), Status::kDevice);
  EXPECT_STREQ(device_error(), "refused");
  gpu.launch_error = cudaErrorIllegalAddress;
  gpu.sticky = true;
  EXPECT_EQ(put(launch_of(KernelKind::kFused, 8, false), nullptr), Status::kDevice);
}

}  // namespace
}  // namespace sn_deploy::cuda::test
