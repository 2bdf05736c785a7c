// The runtime phase: what reaches the launchers, and what a refusal looks like.
#include <cstring>
#include <thread>

#include "tensorrt/tests/library.h"

namespace sn_deploy::tensorrt::test {
namespace {

using nvinfer1::DataType;
using nvinfer1::PluginTensorDesc;
using nvinfer1::TensorFormat;

// Addresses are only handed on.
void* address(int i) { return reinterpret_cast<void*>(static_cast<std::uintptr_t>(4096 * (i + 1))); }

std::int32_t enqueue(const Plugin& plugin, const std::vector<PluginTensorDesc>& tensors) {
  void const* inputs[6];
  for (int i = 0; i < 6; ++i) inputs[i] = address(i);
  void* outputs[] = {address(6)};
  return plugin.runtime->enqueue(tensors.data(), &tensors.back(), inputs, outputs, address(7),
                                 static_cast<cudaStream_t>(address(8)));
}

class Runtime : public testing::Test {
 protected:
  void SetUp() override { *library_.launcher() = {}; }
  std::string logged() { return library_.finder.take(); }
  Library library_{SN_PLUGIN_FAKE};
};

TEST_F(Runtime, HandsTheProblemToTheLaunchers) {
  const Plugin plugin = make_plugin(library_, "SwitchNormAddRelu");
  const auto tensors = tensors_of("SwitchNormAddRelu", {3, 12, 4, 5}, DataType::kHALF, TensorFormat::kHWC8);
  ASSERT_EQ(plugin.runtime->setTactic(1), 0);
  ASSERT_EQ(plugin.runtime->onShapeChange(tensors.data(), 6, &tensors[6], 1), 0);
  ASSERT_EQ(enqueue(plugin, tensors), 0);
  const FakeLauncher& seen = *library_.launcher();
  EXPECT_EQ(seen.launches, 1);
  EXPECT_EQ(seen.tactic, 1);
  EXPECT_EQ(seen.problem.batch, 3);
  EXPECT_EQ(seen.problem.channels, 12);
  EXPECT_EQ(seen.problem.spatial, 20);
  EXPECT_EQ(seen.problem.stored_channels, 16);
  EXPECT_EQ(seen.problem.has_in, 1);
  EXPECT_EQ(seen.problem.ddof, 1);
  EXPECT_EQ(seen.problem.data_type, 1);
  EXPECT_EQ(seen.problem.layout, 1);
  EXPECT_EQ(seen.problem.epilogue, 2);
  EXPECT_EQ(seen.problem.mean_in, 0.5F);
  EXPECT_EQ(seen.problem.mean_ln, 0.25F);
  EXPECT_EQ(seen.problem.var_in, 0.125F);
  EXPECT_EQ(seen.problem.var_ln, 0.75F);
  EXPECT_EQ(seen.tensors.x, address(0));
  EXPECT_EQ(seen.tensors.scale, address(1));
  EXPECT_EQ(seen.tensors.bias, address(2));
  EXPECT_EQ(seen.tensors.mean_offset, address(3));
  EXPECT_EQ(seen.tensors.var_offset, address(4));
  EXPECT_EQ(seen.tensors.residual, address(5));
  EXPECT_EQ(seen.tensors.y, address(6));
  EXPECT_EQ(seen.workspace, address(7));
  EXPECT_EQ(seen.workspace_bytes, 3 * 12 * 12 + 20);
  EXPECT_EQ(seen.stream, address(8));
  EXPECT_EQ(logged(), "");
}

TEST_F(Runtime, KnowsEveryOpTypeFormatAndRank) {
  struct Case {
    const char* op;
    std::initializer_list<std::int64_t> x;
    DataType type;
    TensorFormat format;
    std::int64_t spatial, stored;
    std::int32_t has_in, data_type, layout, epilogue;
  };
  const Case cases[] = {
      {"SwitchNorm", {3, 12}, DataType::kFLOAT, TensorFormat::kLINEAR, 1, 0, 0, 0, 0, 0},
      {"SwitchNorm", {3, 12, 7}, DataType::kBF16, TensorFormat::kLINEAR, 7, 0, 1, 2, 0, 0},
      {"SwitchNormRelu", {3, 12, 4, 5}, DataType::kFLOAT, TensorFormat::kHWC, 20, 12, 1, 0, 1, 1},
      {"SwitchNormRelu", {3, 12, 2, 4, 5}, DataType::kFLOAT, TensorFormat::kDHWC, 40, 12, 1, 0, 1, 1},
      {"SwitchNormAddRelu", {3, 12, 2, 4, 5}, DataType::kBF16, TensorFormat::kDHWC8, 40, 16, 1, 2, 1, 2},
  };
  for (const Case& c : cases) {
    const Plugin plugin = make_plugin(library_, c.op);
    ASSERT_EQ(enqueue(plugin, tensors_of(c.op, c.x, c.type, c.format)), 0);
    const SnCudaProblem& seen = library_.launcher()->problem;
    EXPECT_EQ(seen.spatial, c.spatial);
    EXPECT_EQ(seen.stored_channels, c.stored);
    EXPECT_EQ(seen.has_in, c.has_in);
    EXPECT_EQ(seen.data_type, c.data_type);
    EXPECT_EQ(seen.layout, c.layout);
    EXPECT_EQ(seen.epilogue, c.epilogue);
    EXPECT_EQ(library_.launcher()->tensors.residual == nullptr, c.epilogue != 2);
  }
  EXPECT_EQ(logged(), "");
}

TEST_F(Runtime, WithoutATacticTakesTheOneThatPlanningChooses) {
  const Plugin plugin = make_plugin(library_, "SwitchNorm");
  ASSERT_EQ(enqueue(plugin, tensors_of("SwitchNorm", {3, 12, 7})), 0);
  EXPECT_EQ(library_.launcher()->tactic, kFakeChosen);
}

TEST_F(Runtime, FallsBackWhereTheTacticCantRun) {
  const Plugin plugin = make_plugin(library_, "SwitchNorm");
  ASSERT_EQ(plugin.runtime->setTactic(1), 0);
  library_.launcher()->refuse_tactic = 1;
  ASSERT_EQ(enqueue(plugin, tensors_of("SwitchNorm", {3, 12, 7})), 0);
  EXPECT_EQ(library_.launcher()->tactic, kFakeFallback);
  EXPECT_EQ(library_.launcher()->launches, 1);
}

TEST_F(Runtime, ReportsWhatTheDeviceSays) {
  const Plugin plugin = make_plugin(library_, "SwitchNorm");
  library_.launcher()->launch_status = 16;
  EXPECT_NE(enqueue(plugin, tensors_of("SwitchNorm", {3, 12, 7})), 0);
  EXPECT_EQ(logged(), "SwitchNorm: the device reported an error: a fake device error\n");
  library_.launcher()->launch_status = 14;
  EXPECT_NE(enqueue(plugin, tensors_of("SwitchNorm", {3, 12, 7})), 0);
  EXPECT_EQ(logged(), "SwitchNorm: the workspace is missing or too small\n");
  library_.launcher()->launch_status = 0;
  for (std::int32_t FakeLauncher::* status : {&FakeLauncher::choose_status, &FakeLauncher::workspace_status}) {
    library_.launcher()->*status = 16;
    EXPECT_NE(enqueue(plugin, tensors_of("SwitchNorm", {3, 12, 7})), 0);
    EXPECT_EQ(logged(), "SwitchNorm: the device reported an error: a fake device error\n");
    library_.launcher()->*status = 0;
  }
  EXPECT_EQ(library_.launcher()->launches, 0);
}

TEST_F(Runtime, RefusesShapesWithoutAValue) {
  const Plugin plugin = make_plugin(library_, "SwitchNormAddRelu");
  auto tensors = tensors_of("SwitchNormAddRelu", {3, 12, 1, 1});
  EXPECT_NE(plugin.runtime->onShapeChange(tensors.data(), 6, &tensors[6], 1), 0);
  EXPECT_NE(enqueue(plugin, tensors), 0);
  EXPECT_EQ(logged(),
            "SwitchNormAddRelu: too few values for the variance: HW (for rank 2: C) must be above ddof\n"
            "SwitchNormAddRelu: too few values for the variance: HW (for rank 2: C) must be above ddof\n");
  for (const std::size_t parameter : {1, 2, 3, 4}) {
    tensors = tensors_of("SwitchNormAddRelu", {3, 12, 4, 4});
    tensors[parameter].dims.d[0] = 11;
    EXPECT_NE(plugin.runtime->onShapeChange(tensors.data(), 6, &tensors[6], 1), 0);
    EXPECT_NE(logged().find("must have shape (C)"), std::string::npos);
    tensors[parameter].dims = dims({12, 1});
    EXPECT_NE(plugin.runtime->onShapeChange(tensors.data(), 6, &tensors[6], 1), 0);
    EXPECT_NE(logged().find("must have shape (C)"), std::string::npos);
  }
  tensors = tensors_of("SwitchNormAddRelu", {3, 12, 4, 4});
  tensors[5].dims.d[0] = 1;
  EXPECT_NE(plugin.runtime->onShapeChange(tensors.data(), 6, &tensors[6], 1), 0);
  for (const std::initializer_list<std::int64_t>& residual :
       {std::initializer_list<std::int64_t>{3, 12, 4}, {3, 12, 4, 4, 1}}) {
    tensors = tensors_of("SwitchNormAddRelu", {3, 12, 4, 4});
    tensors[5].dims = dims(residual);
    EXPECT_NE(plugin.runtime->onShapeChange(tensors.data(), 6, &tensors[6], 1), 0);
  }
  tensors = tensors_of("SwitchNormAddRelu", {3, 12, 4, 4}, DataType::kHALF, TensorFormat::kHWC);  // its padding is 8's
  EXPECT_NE(plugin.runtime->onShapeChange(tensors.data(), 6, &tensors[6], 1), 0);
  tensors = tensors_of("SwitchNormAddRelu", {3, 12, 4, 4}, DataType::kINT8);
  EXPECT_NE(plugin.runtime->onShapeChange(tensors.data(), 6, &tensors[6], 1), 0);
  EXPECT_NE(plugin.runtime->onShapeChange(tensors.data(), 5, &tensors[6], 1), 0);
  EXPECT_NE(plugin.runtime->enqueue(tensors.data(), &tensors[6], nullptr, nullptr, nullptr, nullptr), 0);
  EXPECT_EQ(library_.launcher()->launches, 0);
  EXPECT_EQ(logged(),
            "SwitchNormAddRelu: the residual must have X's shape\n"
            "SwitchNormAddRelu: the residual must have X's shape\n"
            "SwitchNormAddRelu: the residual must have X's shape\n"
            "SwitchNormAddRelu: X must be float32, float16 or bfloat16, and Y and the residual like X; the parameters "
            "must be float32\n"
            "SwitchNormAddRelu: X must be float32, float16 or bfloat16, and Y and the residual like X; the parameters "
            "must be float32\n"
            "SwitchNormAddRelu: 5 inputs; expected 6\n"
            "SwitchNormAddRelu: a pointer to a tensor is null\n");
}

TEST_F(Runtime, ContextsAreIndependent) {
  Plugin engine = make_plugin(library_, "SwitchNorm");
  ASSERT_EQ(engine.runtime->setTactic(4), 0);
  const Plugin first(engine.runtime->attachToContext(nullptr));
  const Plugin second(engine.runtime->attachToContext(nullptr));
  engine.owner.reset();
  ASSERT_EQ(first.runtime->setTactic(1), 0);
  ASSERT_EQ(enqueue(second, tensors_of("SwitchNorm", {3, 12, 7})), 0);
  EXPECT_EQ(library_.launcher()->tactic, 4);
  ASSERT_EQ(enqueue(first, tensors_of("SwitchNorm", {3, 12, 7})), 0);
  EXPECT_EQ(library_.launcher()->tactic, 1);
}

// With the real launchers, on whatever machine this is: no crash, and a reason where there is no GPU. The tensors are
// empty, so that nothing is read where there is one.
TEST(RealLaunchers, SayWhyThereIsNoDevice) {
  Library library(SN_PLUGIN);
  ASSERT_EQ(library.launcher(), nullptr);
  const Plugin plugin = make_plugin(library, "SwitchNorm");
  const auto tensors = tensors_of("SwitchNorm", {0, 12, 7});
  EXPECT_EQ(enqueue(plugin, tensors), 0);
  EXPECT_EQ(library.finder.take(), "");
  const auto profile = profile_of(tensors_of("SwitchNorm", {1, 64, 56, 56}), 2, 6);
  ASSERT_EQ(plugin.build->configurePlugin(profile.data(), 5, &profile[5], 1), 0);
  EXPECT_GT(plugin.build->getWorkspaceSize(profile.data(), 5, &profile[5], 1), 0U);
  const std::int32_t tactics = plugin.build->getNbTactics();
  if (tactics == 0) {
    EXPECT_NE(library.finder.take().find("no tactics can be timed: the device reported an error"), std::string::npos);
    EXPECT_NE(enqueue(plugin, tensors_of("SwitchNorm", {1, 64, 7})), 0);
    EXPECT_NE(library.finder.take().find("the device reported an error: "), std::string::npos);
  }
}

}  // namespace
}  // namespace sn_deploy::tensorrt::test
