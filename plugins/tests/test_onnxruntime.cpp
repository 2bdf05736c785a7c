// The custom-op library over a fake ONNX Runtime: what it registers, that it computes, and that each call that fails,
// at any point, is reported and leaves nothing behind.
#include <gtest/gtest.h>

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <set>
#include <string>
#include <vector>

#include "tests/fake_node.h"

extern "C" OrtStatus* RegisterCustomOps(OrtSessionOptions* options, const OrtApiBase* base);

namespace sn_deploy::ort {
namespace {

using sn_deploy::testing::Extents;
using sn_deploy::testing::Fake;
using sn_deploy::testing::kNames;
using sn_deploy::testing::message_of;
using sn_deploy::testing::tensor;

// Calls that may fail and change nothing: of the node's name, and of whom a blocked node's file is for.
bool is_spared(int call, bool blocked) { return call == 0 || (blocked && call == 7); }

class Node : public sn_deploy::testing::FakeNode {
 public:
  explicit Node(const char* op, bool blocked = false) : FakeNode(providers().list[blocked ? 1 : 0], op) {
    if (!blocked) return;
    info.ints["block_size"] = 8;
    context.inputs[kX] = context.inputs[kResidual] = tensor({2, 8, 2, 2}, 0.0F);
  }
};

TEST(Node, Computes) {
  for (const char* name : kNames) {
    Node node(name);
    EXPECT_EQ(node.run(), "") << name;
    EXPECT_EQ(node.context.output.extents, (Extents{2, 3, 4}));
    EXPECT_EQ(node.fake.alive, 0);
  }
}

TEST(Node, EachCallThatFailsIsReportedAndLeavesNothing) {
  for (const char* name : kNames) {
    Node whole(name);
    ASSERT_EQ(whole.run(), "");
    const int calls = whole.fake.calls;
    ASSERT_GT(calls, 20);
    for (int failing = 0; failing < calls; ++failing) {
      Node node(name);
      node.fake.failing = failing;
      const std::string message = node.run();
      // Without its name the node is still right: the first call.
      EXPECT_EQ(message.empty(), failing == 0) << "call " << failing;
      EXPECT_EQ(node.fake.alive, 0) << "call " << failing << ": " << message;
    }
  }
}

// Of so many values that the work goes to ONNX Runtime's threads.
TEST(Node, ThreadsThatFailAreReported) {
  for (const bool blocked : {false, true}) {
    int failures = 0;
    for (int failing = 0;; ++failing) {
      Node node("SwitchNorm", blocked);
      node.context.inputs[kX] = blocked ? tensor({1, 8, 120, 120}, 0.0F) : tensor({1, 3, 20000}, 0.0F);
      node.fake.failing = failing;
      const std::string message = node.run();
      EXPECT_EQ(node.fake.alive, 0) << "call " << failing << ": " << message;
      if (message.find("'layer1.sn': the work could not be given to the threads") != std::string::npos) ++failures;
      if (message.empty() && !is_spared(failing, blocked)) break;
    }
    EXPECT_EQ(failures, blocked ? 1 : 2);  // once, or once for the statistics and once to apply
  }
}

// When the session is made, and not at its first run.
TEST(Node, BadAttributesAreRefusedWithTheNode) {
  for (const char* name : {"mean_in", "mean_ln", "var_in", "var_ln"}) {
    for (const float value : {std::nanf(""), std::numeric_limits<float>::infinity()}) {
      Node node("SwitchNorm");
      node.info.floats[name] = value;
      EXPECT_NE(node.create().find("'layer1.sn': mean_in, mean_ln, var_in and var_ln must be finite"),
                std::string::npos);
    }
    Node node("SwitchNorm");
    node.info.floats.erase(name);
    EXPECT_NE(node.create().find("the attribute " + std::string(name) + " is missing"), std::string::npos);
  }
  for (const std::int64_t ddof : {-1, 2}) {
    Node node("SwitchNorm");
    node.info.ints["ddof"] = ddof;
    EXPECT_NE(node.create().find("ddof must be 0 or 1, not " + std::to_string(ddof)), std::string::npos);
  }
}

TEST(Node, BadTensorsAreRefusedWithTheLayersName) {
  struct Bad {
    std::size_t input;
    OrtValue value;
    const char* expected;
  };
  const Bad all[] = {
      {0, tensor({4}, 0), "X has shape (4)"},
      {0, tensor({1, 5, 4}, 0), "must have shape (C)"},
      {0, tensor({1, 3, 1}, 0), "too few values"},
      {0, tensor({1, 3, 0}, 0), "empty spatial extent"},
      {0, tensor(Extents(17, 1), 0), "rank 17; expected at most 16"},
      {2, tensor({4}, 0), "bias has shape (4)"},
      {1, tensor({1, 3}, 0), "scale has shape (1, 3)"},
      {4, tensor({}, 0), "var_offset has shape ()"},
      {5, tensor({2, 3, 1}, 0), "the residual (2, 3, 1)"},
  };
  for (const Bad& bad : all) {
    Node node("SwitchNormAddRelu");
    node.context.inputs[bad.input] = bad.value;
    const std::string message = node.run();
    EXPECT_NE(message.find("sn_deploy::SwitchNormAddRelu 'layer1.sn': "), std::string::npos) << message;
    EXPECT_NE(message.find(bad.expected), std::string::npos) << message;
    EXPECT_EQ(node.fake.alive, 0);
  }
}

// Sanitizers end the process where malloc gives null.
#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__) && !defined(__clang__)
TEST(Node, WithoutMemoryItSaysSo) {
  Node node("SwitchNorm");
  node.info.ints["ddof"] = 0;
  node.context.inputs[kX].extents = {1, std::int64_t{1} << 56, 1};  // nothing reads so far
  for (std::size_t i = kScale; i <= kVarOffset; ++i) node.context.inputs[i].extents = {std::int64_t{1} << 56};
  EXPECT_NE(node.run().find("'layer1.sn': out of memory"), std::string::npos);
  EXPECT_EQ(node.fake.alive, 0);
}
#endif

TEST(Node, AMissingInputIsRefused) {
  Node node("SwitchNormAddRelu");
  node.context.inputs.pop_back();
  EXPECT_NE(node.run().find("the input residual is missing"), std::string::npos);
  EXPECT_EQ(node.fake.alive, 0);
}

TEST(Node, LongNamesAndLargeShapesFitInAMessage) {
  Node node("SwitchNorm");
  node.info.name = std::string(250, 'n');
  node.context.inputs[0].extents = Extents(16, std::int64_t{1} << 60);
  const std::string message = node.run();
  EXPECT_NE(message.find(std::string(250, 'n')), std::string::npos);
  Node longer("SwitchNorm");
  longer.info.name = std::string(5000, 'n');
  EXPECT_EQ(longer.run(), "");
  EXPECT_EQ(longer.fake.alive, 0);
}

TEST(Node, YIsLikeX) {
  Node node("SwitchNorm");
  for (OrtTensorTypeAndShapeInfo x :
       {OrtTensorTypeAndShapeInfo{{1, 4, 7}}, OrtTensorTypeAndShapeInfo{{-1, 4, -1}, {"batch", "", "width"}}}) {
    OrtShapeInferContext context{x};
    EXPECT_EQ(node.op().InferOutputShapeFn(&node.op(), &context), nullptr);
    EXPECT_EQ(context.y, &context.x);
  }
}

// ONNX Runtime would take -1 for a size, and rank 0 for a scalar.
TEST(Node, OfAnUnknownShapeNothingIsSaid) {
  Node node("SwitchNorm");
  for (OrtTensorTypeAndShapeInfo x : {OrtTensorTypeAndShapeInfo{{1, 4, -1}}, OrtTensorTypeAndShapeInfo{{}},
                                      OrtTensorTypeAndShapeInfo{{-1, 4, -1}, {"batch"}}}) {
    OrtShapeInferContext context{x};
    EXPECT_EQ(node.op().InferOutputShapeFn(&node.op(), &context), nullptr);
    EXPECT_EQ(context.y, nullptr);
  }
}

TEST(Node, EachCallOfShapeInferenceThatFailsIsReported) {
  for (int failing = 0; failing < 5; ++failing) {
    Node node("SwitchNorm");
    node.fake.failing = failing;
    OrtShapeInferContext context{OrtTensorTypeAndShapeInfo{{1, 4, 7}}};
    EXPECT_EQ(message_of(node.fake, node.op().InferOutputShapeFn(&node.op(), &context)), "injected") << failing;
    EXPECT_EQ(node.fake.alive, 0);
  }
}

TEST(Node, YMayTakeThePlaceOfXAndOfTheResidual) {
  for (const char* name : kNames) {
    Node node(name);
    int* inputs = nullptr;
    int* outputs = nullptr;
    const std::size_t count = node.op().GetMayInplace(&inputs, &outputs);
    const bool adds = std::string(name) == "SwitchNormAddRelu";
    ASSERT_EQ(count, adds ? 2U : 1U);
    EXPECT_EQ(inputs[0], 0);
    EXPECT_EQ(outputs[0], 0);
    if (adds) {
      EXPECT_EQ(inputs[1], 5);
      EXPECT_EQ(outputs[1], 0);
    }
    node.op().ReleaseMayInplace(inputs, outputs);
  }
}

// --- On blocks of channels ----------------------------------------------------------------------------------------

TEST(BlockedNode, Computes) {
  for (const char* name : kNames) {
    Node node(name, true);
    EXPECT_EQ(node.run(), "") << name;
    EXPECT_EQ(node.context.output.extents, (Extents{2, 8, 2, 2}));
    EXPECT_EQ(node.fake.alive, 0);
  }
}

TEST(BlockedNode, EachCallThatFailsIsReportedAndLeavesNothing) {
  Node whole("SwitchNormAddRelu", true);
  ASSERT_EQ(whole.run(), "");
  for (int failing = 0; failing < whole.fake.calls; ++failing) {
    Node node("SwitchNormAddRelu", true);
    node.fake.failing = failing;
    EXPECT_EQ(node.run().empty(), is_spared(failing, true)) << "call " << failing;
    EXPECT_EQ(node.fake.alive, 0) << "call " << failing;
  }
}

TEST(BlockedNode, FilesForAnotherOnnxRuntimeAreRefused) {
#if defined(__x86_64__)
  const std::int64_t block = __builtin_cpu_supports("avx512f") ? 16 : 8;
#else
  const std::int64_t block = 8;
#endif
  struct Made {
    const char* with;
    const char* runtime;
    bool fits;
  };
  const Made all[] = {{"1.32.0", "1.32.0", true},   {"1.32.0.dev1", "1.32.0", true},
                      {"1.32.0", nullptr, true},    {"1.32.1", "1.32.0", false},
                      {"1.32.01", "1.32.0", false}, {"1.3", "1.32.0", false},
                      {"1.32.0", "1.3", false},     {"", "1.32.0", false}};
  for (const Made& made : all) {
    Node node("SwitchNorm", true);
    node.info.ints["block_size"] = block;
    node.context.inputs[kX] = tensor({2, block, 2, 2}, 0.0F);
    node.info.strings["onnxruntime"] = made.with;
    node.set_runtime(made.runtime);
    const std::string message = node.run();
    EXPECT_EQ(message.empty(), made.fits) << made.with << ", " << message;
    if (!made.fits) {
      EXPECT_NE(message.find(std::string("was made for ONNX Runtime ") + made.with + ", and this is " + made.runtime),
                std::string::npos)
          << message;
    }
    EXPECT_EQ(node.fake.alive, 0);
  }
}

#if defined(__x86_64__)
TEST(BlockedNode, FilesForAnotherProcessorAreRefused) {
  Node node("SwitchNorm", true);
  node.info.ints["block_size"] = __builtin_cpu_supports("avx512f") ? 8 : 16;
  node.info.strings["onnxruntime"] = "1.32.0";
  node.set_runtime("1.32.0");
  const std::string message = node.run();
  EXPECT_NE(message.find("was made for another processor"), std::string::npos) << message;
}
#endif

TEST(BlockedNode, BadBlockSizesAreRefused) {
  Node missing("SwitchNorm", true);
  missing.info.ints.erase("block_size");
  EXPECT_NE(missing.run().find("block_size is missing"), std::string::npos);
  for (const std::int64_t size : {-8, 0, 1, 4, 32}) {
    Node node("SwitchNorm", true);
    node.info.ints["block_size"] = size;
    const std::string message = node.run();
    EXPECT_NE(message.find("sn_deploy.nchwc::SwitchNorm 'layer1.sn': "), std::string::npos) << message;
    EXPECT_NE(message.find("block_size must be 8 or 16, not " + std::to_string(size)), std::string::npos) << message;
  }
}

TEST(BlockedNode, BadTensorsAreRefusedWithTheLayersName) {
  struct Bad {
    std::size_t input;
    OrtValue value;
    const char* expected;
  };
  const Bad all[] = {
      {kX, tensor({2, 8, 4}, 0), "another rank than 4"},
      {kX, tensor({2, 3, 2, 2}, 0), "rounded up to a multiple of block_size"},
      {kX, tensor({2, 16, 2, 2}, 0), "X has shape (2, 16, 2, 2), the parameters (3)"},
      {kX, tensor({2, 8, 1, 1}, 0), "too few values"},
      {kScale, tensor({8}, 0), "bias has shape (3)"},
      {kResidual, tensor({2, 8, 2, 1}, 0), "the residual (2, 8, 2, 1)"},
  };
  for (const Bad& bad : all) {
    Node node("SwitchNormAddRelu", true);
    node.context.inputs[bad.input] = bad.value;
    const std::string message = node.run();
    EXPECT_NE(message.find("sn_deploy.nchwc::SwitchNormAddRelu 'layer1.sn': "), std::string::npos) << message;
    EXPECT_NE(message.find(bad.expected), std::string::npos) << message;
    EXPECT_EQ(node.fake.alive, 0);
  }
}

// --- Registration -------------------------------------------------------------------------------------------------

// A domain is kept to the end of the process, and so are the fakes that it was made for.
TEST(Registration, GivesEverySessionTheSameDomain) {
  static Fake fake;
  sn_deploy::testing::current_fake() = &fake;
  OrtSessionOptions first;
  OrtSessionOptions second;
  ASSERT_EQ(RegisterCustomOps(&first, &fake.base), nullptr);
  ASSERT_EQ(RegisterCustomOps(&second, &fake.base), nullptr);
  ASSERT_EQ(first.domains.size(), 2U);
  EXPECT_EQ(first.domains, second.domains);
  EXPECT_EQ(first.domains[0]->name, "sn_deploy");
  EXPECT_EQ(first.domains[0]->ops.size(), 9U);
  std::multiset<std::string> names;
  for (const OrtCustomOp* op : first.domains[0]->ops) {
    names.insert(op->GetName(op));
    EXPECT_EQ(op->version, 18U);
    EXPECT_EQ(op->GetInputTypeCount(op), std::string(op->GetName(op)) == "SwitchNormAddRelu" ? 6U : 5U);
    EXPECT_EQ(op->GetInputType(op, 0), op->GetOutputType(op, 0));
    EXPECT_EQ(op->GetInputType(op, 5), op->GetOutputType(op, 0));
    EXPECT_EQ(op->GetInputType(op, 1), ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT);
  }
  for (const char* name : kNames) EXPECT_EQ(names.count(name), 3U);
  EXPECT_EQ(first.domains[1]->name, "sn_deploy.nchwc");
  ASSERT_EQ(first.domains[1]->ops.size(), 3U);
  for (std::size_t i = 0; i < 3; ++i) {
    const OrtCustomOp* op = first.domains[1]->ops[i];
    EXPECT_STREQ(op->GetName(op), kNames[i]);
    EXPECT_EQ(op->GetOutputType(op, 0), ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT);
  }
}

// A session refuses a domain that comes twice.
TEST(Registration, ASecondTimeChangesNothing) {
  static Fake fake;
  sn_deploy::testing::current_fake() = &fake;
  OrtSessionOptions options;
  for (int time = 0; time < 3; ++time) {
    ASSERT_EQ(RegisterCustomOps(&options, &fake.base), nullptr);
    EXPECT_EQ(options.domains.size(), 2U);
  }
}

TEST(Registration, LeavesTheOperatorsOfALibraryThatHasMoreProviders) {
  Fake fake;
  OrtSessionOptions options;
  options.entries["sn_deploy.providers"] = std::to_string(providers().count + 1);
  ASSERT_EQ(RegisterCustomOps(&options, &fake.base), nullptr);
  EXPECT_TRUE(options.domains.empty());
}

TEST(Registration, IsRefusedBehindALibraryThatHasFewerProviders) {
  for (const std::string& before : {std::to_string(providers().count - 1), std::string(), std::string(90, '9')}) {
    Fake fake;
    OrtSessionOptions options;
    options.entries["sn_deploy.providers"] = before;
    const std::string message = message_of(fake, RegisterCustomOps(&options, &fake.base));
    EXPECT_NE(message.find("register one of sn_deploy's libraries alone"), std::string::npos) << message;
    EXPECT_TRUE(options.domains.empty());
    EXPECT_EQ(fake.alive, 0);
  }
}

TEST(Registration, AFailureIsReportedAndLeavesNothing) {
  // Whether it came before; two domains, of nine and of three operators.
  for (int failing = 0; failing < 15; ++failing) {
    Fake fake;
    fake.failing = failing;
    OrtSessionOptions options;
    EXPECT_EQ(message_of(fake, RegisterCustomOps(&options, &fake.base)), "injected") << failing;
    EXPECT_TRUE(options.domains.empty());
    EXPECT_EQ(fake.alive, 0);
  }
}

TEST(Registration, AnOlderOnnxRuntimeIsRefused) {
  Fake fake;
  fake.newest = 17;
  OrtSessionOptions options;
  const std::string message = message_of(fake, RegisterCustomOps(&options, &fake.base));
  EXPECT_NE(message.find("1.18 or later"), std::string::npos);
  EXPECT_EQ(fake.alive, 0);
}

}  // namespace
}  // namespace sn_deploy::ort
