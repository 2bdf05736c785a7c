// Nodes of the CUDA provider: what they compute and launch, bad input, and that each call that fails, at any point, is
// reported and leaves nothing behind.
#include <gtest/gtest.h>

#include <cmath>
#include <cstddef>
#include <cstring>
#include <string>
#include <vector>

#include "onnxruntime_cuda/tests/fake_device.h"
#include "tests/fake_node.h"

extern "C" OrtStatus* RegisterCustomOps(OrtSessionOptions* options, const OrtApiBase* base);

namespace sn_deploy::ort {
namespace {

using cuda::test::fake_device;
using cuda::test::FakeDevice;
using sn_deploy::testing::Extents;
using sn_deploy::testing::Fake;
using sn_deploy::testing::FakeNode;
using sn_deploy::testing::kNames;
using sn_deploy::testing::message_of;
using sn_deploy::testing::tensor;

constexpr int kCpu = 0;
constexpr int kCuda = 2;
int stream_of_test = 0;  // its address is the stream

const Provider& provider(int which) { return providers().list[which]; }

class CudaNode : public FakeNode {
 public:
  explicit CudaNode(const char* op) : FakeNode(provider(kCuda), op) {
    fake_device() = FakeDevice();
    context.stream = &stream_of_test;
  }
};

std::vector<float> floats_of(const OrtValue& value) {
  std::vector<float> values(value.data.size() / sizeof(float));
  std::memcpy(values.data(), value.data.data(), value.data.size());
  return values;
}

void expect_what_the_cpu_computes(CudaNode& node, const char* name) {
  EXPECT_EQ(node.run(), "") << name;
  EXPECT_EQ(node.fake.alive, 0);
  FakeNode cpu(provider(kCpu), name);
  cpu.info = node.info;
  cpu.context = node.context;
  ASSERT_EQ(cpu.run(), "");
  EXPECT_EQ(node.context.output.extents, cpu.context.output.extents);
  const std::vector<float> y = floats_of(node.context.output);
  const std::vector<float> expected = floats_of(cpu.context.output);
  ASSERT_EQ(y.size(), expected.size());
  for (std::size_t i = 0; i < y.size(); ++i) EXPECT_NEAR(y[i], expected[i], 2e-6) << name << ", element " << i;
}

TEST(CudaNode, ComputesOnTheProvidersStream) {
  for (const char* name : kNames) {
    CudaNode node(name);
    expect_what_the_cpu_computes(node, name);
    ASSERT_EQ(fake_device().streams.size(), 1U);
    EXPECT_EQ(fake_device().streams[0], &stream_of_test);
  }
}

TEST(CudaNode, TakesEveryRank) {
  for (const Extents& extents : {Extents{2, 3}, {1, 3, 9}, {2, 3, 4, 5}, {1, 3, 2, 2, 2}}) {
    CudaNode node("SwitchNormAddRelu");
    node.context.inputs[kX] = tensor(extents, 0.5F);
    node.context.inputs[kResidual] = tensor(extents, -2.0F);
    expect_what_the_cpu_computes(node, "SwitchNormAddRelu");
  }
}

// With a device that has no clusters, and too little memory for a sample in one block.
TEST(CudaNode, TakesItsWorkspaceFromTheProvidersArena) {
  CudaNode node("SwitchNorm");
  fake_device().limits = {8, 4 * 1024, 1, false};
  node.context.inputs[kX] = tensor({2, 3, 40, 40}, 0.5F);
  expect_what_the_cpu_computes(node, "SwitchNorm");
  EXPECT_EQ(fake_device().launches.size(), 2U);  // two kernels
  EXPECT_EQ(node.fake.scratch_bytes, 48U);       // a mean and an M2 for each of (N, parts, C)
}

TEST(CudaNode, FallsBackWhereItsTacticDoesNotRun) {
  CudaNode node("SwitchNormRelu");
  fake_device().limits.shared_bytes = 8 * 1024;
  fake_device().takes_clusters = false;
  node.context.inputs[kX] = tensor({1, 3, 40, 40}, 0.5F);
  expect_what_the_cpu_computes(node, "SwitchNormRelu");
  ASSERT_EQ(fake_device().launches.size(), 2U);
  EXPECT_EQ(fake_device().launches[0].kind, cuda::KernelKind::kStatistics);
}

TEST(CudaNode, AnEmptyBatchLaunchesNothing) {
  CudaNode node("SwitchNormAddRelu");
  node.context.inputs[kX] = node.context.inputs[kResidual] = tensor({0, 3, 4}, 0.0F);
  EXPECT_EQ(node.run(), "");
  EXPECT_EQ(node.context.output.extents, (Extents{0, 3, 4}));
  EXPECT_TRUE(fake_device().launches.empty());
}

TEST(CudaNode, EachCallThatFailsIsReportedAndLeavesNothing) {
  for (const char* name : kNames) {
    const auto prepare = [](CudaNode& node) {
      fake_device().limits = {8, 4 * 1024, 1, false};  // so that a workspace is asked for
      node.context.inputs[kX] = node.context.inputs[kResidual] = tensor({1, 3, 40, 40}, 0.5F);
    };
    CudaNode whole(name);
    prepare(whole);
    ASSERT_EQ(whole.run(), "");
    const int calls = whole.fake.calls;
    ASSERT_GT(calls, 25);
    for (int failing = 0; failing < calls; ++failing) {
      CudaNode node(name);
      prepare(node);
      node.fake.failing = failing;
      const std::string message = node.run();
      // Without its name the node is still right: the first call.
      EXPECT_EQ(message.empty(), failing == 0) << "call " << failing;
      EXPECT_EQ(node.fake.alive, 0) << "call " << failing << ": " << message;
    }
  }
}

TEST(CudaNode, BadInputIsRefusedWithTheLayersName) {
  struct Bad {
    std::size_t input;
    OrtValue value;
    const char* expected;
  };
  const Bad all[] = {
      {kX, tensor({4}, 0), "X has shape (4)"},
      {kX, tensor({1, 5, 4}, 0), "must have shape (C)"},
      {kX, tensor({1, 3, 1}, 0), "too few values"},
      {kX, tensor({1, 3, 0}, 0), "empty spatial extent"},
      {kBias, tensor({4}, 0), "bias has shape (4)"},
      {kScale, tensor({1, 3}, 0), "scale has shape (1, 3)"},
      {kResidual, tensor({2, 3, 1}, 0), "the residual (2, 3, 1)"},
  };
  for (const Bad& bad : all) {
    CudaNode node("SwitchNormAddRelu");
    node.context.inputs[bad.input] = bad.value;
    const std::string message = node.run();
    EXPECT_NE(message.find("sn_deploy::SwitchNormAddRelu 'layer1.sn': "), std::string::npos) << message;
    EXPECT_NE(message.find(bad.expected), std::string::npos) << message;
    EXPECT_EQ(node.fake.alive, 0);
    EXPECT_TRUE(fake_device().launches.empty());
  }
}

TEST(CudaNode, BadAttributesAreRefused) {
  CudaNode nan("SwitchNorm");
  nan.info.floats["var_ln"] = std::nanf("");
  EXPECT_NE(nan.run().find("must be finite"), std::string::npos);
  CudaNode ddof("SwitchNorm");
  ddof.info.ints["ddof"] = 2;
  EXPECT_NE(ddof.run().find("ddof must be 0 or 1"), std::string::npos);
}

TEST(CudaNode, ATensorOutsideTheGpuIsRefused) {
  CudaNode node("SwitchNorm");
  node.fake.memory.device = OrtMemoryInfoDeviceType_CPU;
  EXPECT_NE(node.run().find("X is not in a GPU's memory"), std::string::npos);
  EXPECT_TRUE(fake_device().launches.empty());
}

TEST(CudaNode, ADeviceThatFailsIsReportedInItsOwnWords) {
  CudaNode node("SwitchNorm");
  fake_device().there = false;
  EXPECT_NE(node.run().find("the device reported an error: no such device"), std::string::npos);
  EXPECT_EQ(node.fake.alive, 0);
}

TEST(Library, ServesTheCpuAndTheCudaProviderInOneDomain) {
  static Fake fake;
  sn_deploy::testing::current_fake() = &fake;
  OrtSessionOptions options;
  ASSERT_EQ(RegisterCustomOps(&options, &fake.base), nullptr);
  ASSERT_EQ(options.domains.size(), 2U);
  EXPECT_EQ(options.domains[0]->name, "sn_deploy");
  EXPECT_EQ(options.domains[0]->ops.size(), 18U);
  int cuda = 0;
  for (const OrtCustomOp* op : options.domains[0]->ops) {
    cuda += std::string(op->GetExecutionProviderType(op)) == "CUDAExecutionProvider" ? 1 : 0;
  }
  EXPECT_EQ(cuda, 9);
  EXPECT_EQ(options.entries["sn_deploy.providers"], "3");
}

}  // namespace
}  // namespace sn_deploy::ort
