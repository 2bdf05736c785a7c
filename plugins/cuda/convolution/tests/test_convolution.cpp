// A convolution with its SN layer against float64, on the host's threads.
#include <gtest/gtest.h>

#include <algorithm>
#include <vector>

#include "cuda/convolution/device.h"
#include "cuda/convolution/tests/expansion.h"

namespace sn_deploy::cuda::test {
namespace {

constexpr DeviceLimits kLimits = {8, 227 * 1024, 16, true};

ConvolutionTactic streamed(int parts, int sides, int warps, int tiles) {
  return {Product::kStreamed, parts, sides, warps, tiles};
}
ConvolutionTactic kept(int parts, int sides, int warps, int tiles) {
  return {Product::kKept, parts, sides, warps, tiles};
}

std::vector<ConvolutionCase> cases() {
  std::vector<ConvolutionCase> all;
  const auto add = [&](ConvolutionTactic tactic, std::int64_t depth, std::int64_t channels, std::int64_t height,
                       std::int64_t width, Epilogue epilogue = Epilogue::kAddRelu, std::int64_t stride = 1,
                       std::int64_t batch = 1) {
    all.push_back({batch, depth, channels, height, width, stride, epilogue, tactic, 0.0});
  };
  add(streamed(1, 1, 1, 1), 64, 64, 4, 4);   // whole tiles
  add(streamed(1, 1, 2, 1), 64, 192, 5, 7);  // chunks, a tile that isn't whole
  add(streamed(1, 1, 4, 2), 64, 128, 9, 11, Epilogue::kNone);
  add(streamed(1, 1, 3, 1), 64, 64, 9, 8);   // threads that are no power of two, two rounds
  add(streamed(1, 1, 8, 1), 64, 64, 3, 3);   // warps without positions
  add(streamed(4, 1, 2, 1), 64, 128, 7, 7);  // 13 positions a part, 10 in the last
  add(streamed(8, 1, 1, 1), 64, 64, 3, 3);   // parts without positions: 2 each
  add(streamed(2, 2, 2, 2), 64, 256, 6, 9, Epilogue::kAddRelu, 1, 2);
  add(streamed(1, 4, 2, 1), 64, 256, 4, 5);
  add(streamed(2, 1, 2, 1), 128, 128, 5, 8, Epilogue::kNone, 2);
  add(streamed(1, 1, 2, 1), 256, 64, 4, 6);
  add(streamed(1, 1, 2, 2), 512, 64, 3, 4);
  add(kept(1, 1, 1, 1), 64, 64, 4, 4);
  add(kept(1, 1, 6, 1), 64, 128, 5, 8, Epilogue::kNone);
  add(kept(1, 1, 5, 2), 64, 128, 5, 8);  // a warp that has none
  add(kept(1, 1, 2, 4), 64, 64, 9, 11);
  add(kept(1, 4, 3, 1), 64, 256, 6, 7, Epilogue::kAddRelu, 1, 3);
  add(kept(4, 2, 2, 1), 128, 256, 7, 7);
  add(kept(8, 1, 1, 1), 64, 64, 3, 3, Epilogue::kNone);
  add(kept(1, 2, 1, 1), 256, 128, 7, 7, Epilogue::kNone, 2);
  add(kept(1, 2, 2, 2), 512, 256, 3, 5);
  return all;
}

TEST(Convolution, GivesWhatFloat64Gives) {
  for (const ConvolutionCase& c : cases()) {
    const Expansion expansion(c);
    ASSERT_EQ(expansion.run(), Status::kOk) << c.name();
    EXPECT_LE(expansion.error(), kTolerance) << c.name();
  }
}

// Deviations of a hundredth of the mean: sums about 0 would have lost four of float32's seven digits.
TEST(Convolution, KeepsItsDigitsWhereMeansAreLarge) {
  for (const ConvolutionTactic& tactic : {streamed(2, 1, 2, 1), kept(2, 1, 3, 1)}) {
    ConvolutionCase c = {1, 64, 64, 8, 10, 1, Epilogue::kNone, tactic, 100.0};
    const Expansion expansion(c);
    ASSERT_EQ(expansion.run(), Status::kOk);
    EXPECT_LE(expansion.error(), kTolerance) << c.name();
  }
}

TEST(Convolution, ASampleHasTheSameBitsInAnyBatch) {
  for (const ConvolutionTactic& tactic : {streamed(2, 2, 2, 1), kept(2, 2, 2, 1)}) {
    ConvolutionCase c = {3, 64, 128, 5, 7, 1, Epilogue::kAddRelu, tactic, 0.0};
    const Expansion together(c);
    c.batch = 1;
    const Expansion alone(c);
    ASSERT_EQ(together.run(), Status::kOk);
    ASSERT_EQ(alone.run(), Status::kOk);
    const std::vector<unsigned char> all = together.bytes_of_y(), one = alone.bytes_of_y();
    EXPECT_TRUE(std::equal(one.begin(), one.end(), all.begin()));
  }
}

// Changes a launch, and gives the error of what comes out.
double error_of_spoilt(void (*spoil)(ConvolutionLaunch&)) {
  const ConvolutionCase c = {1, 64, 128, 5, 8, 2, Epilogue::kAddRelu, streamed(2, 1, 2, 1), 0.5};
  const Expansion expansion(c);
  const SnCudaProblem problem = expansion.problem();
  Request request;
  EXPECT_EQ(request_from_c(&problem, true, &request), Status::kOk);
  ConvolutionLaunch launch;
  EXPECT_EQ(plan_convolution(request, problem, expansion.tensors(), expansion.filter(), {64, 2, 5, 8}, c.tactic,
                             kLimits, &launch),
            Status::kOk);
  spoil(launch);
  EXPECT_EQ(put_convolution(launch, nullptr), Status::kOk);
  return expansion.error();
}

TEST(Convolution, TheOracleSeesWhatIsWrong) {
  EXPECT_LE(error_of_spoilt([](ConvolutionLaunch&) {}), kTolerance);
  EXPECT_GT(error_of_spoilt([](ConvolutionLaunch& launch) { launch.arguments.stride = 1; }), 0.1);
  EXPECT_GT(error_of_spoilt([](ConvolutionLaunch& launch) { launch.arguments.norm.in_divisor += 1.0F; }), kTolerance);
  EXPECT_GT(error_of_spoilt([](ConvolutionLaunch& launch) { launch.arguments.norm.weights.mean_ln += 0.05F; }), 0.01);
  EXPECT_GT(error_of_spoilt([](ConvolutionLaunch& launch) { launch.arguments.norm.spatial_per_block -= 1; }), 0.01);
  EXPECT_GT(error_of_spoilt([](ConvolutionLaunch& launch) {
              launch.arguments.norm.epilogue = static_cast<std::int32_t>(Epilogue::kNone);
            }),
            0.1);
}

TEST(Convolution, RefusesWhatItCannotDo) {
  const auto status = [](std::int64_t depth, std::int64_t channels, std::int64_t height, ConvolutionTactic tactic,
                         Epilogue epilogue = Epilogue::kNone) {
    return Expansion({1, depth, channels, height, 4, 1, epilogue, tactic, 0.0}).run();
  };
  EXPECT_EQ(status(64, 64, 4, streamed(1, 1, 4, 1)), Status::kOk);
  EXPECT_EQ(status(32, 64, 4, streamed(1, 1, 4, 1)), Status::kTactic);
  EXPECT_EQ(status(64, 96, 4, streamed(1, 1, 4, 1)), Status::kTactic);
  EXPECT_EQ(status(64, 64, 4, streamed(1, 2, 4, 1)), Status::kTactic);  // half a chunk for each
  EXPECT_EQ(status(64, 64, 4, streamed(3, 1, 4, 1)), Status::kTactic);
  EXPECT_EQ(status(64, 64, 8, streamed(32, 1, 4, 1)), Status::kTactic);  // a cluster of 32
  EXPECT_EQ(status(64, 64, 4, streamed(1, 1, 16, 1)), Status::kTactic);
  EXPECT_EQ(status(64, 64, 4, streamed(1, 1, 4, 4)), Status::kTactic);
  EXPECT_EQ(status(64, 64, 4, kept(1, 1, 4, 3)), Status::kTactic);
  EXPECT_EQ(status(64, 128, 8, kept(1, 1, 3, 1)), Status::kTactic);       // four products for three warps
  EXPECT_EQ(status(512, 64, 60, streamed(1, 1, 4, 1)), Status::kTactic);  // 250 KB of X
  EXPECT_EQ(status(64, 64, 4, streamed(1, 1, 4, 1), Epilogue::kRelu), Status::kTactic);

  const Expansion expansion({1, 64, 64, 4, 4, 1, Epilogue::kAddRelu, streamed(1, 1, 4, 1), 0.0});
  const SnCudaProblem problem = expansion.problem();
  const SnConvolution convolution = {64, 1, 4, 4};
  const SnConvolution other = {64, 1, 4, 5};
  const SnConvolution still = {64, 0, 4, 4};
  const SnConvolutionTactic tactic = {0, 1, 1, 4, 1};
  const auto launch = [&](const SnCudaProblem& of, SnCudaTensors tensors, const void* filter,
                          const SnConvolution& how) {
    return static_cast<Status>(sn_convolution_launch(&of, &tensors, filter, &how, &tactic, nullptr));
  };
  SnCudaTensors tensors = expansion.tensors();
  EXPECT_EQ(launch(problem, tensors, nullptr, convolution), Status::kNullPointer);
  EXPECT_EQ(launch(problem, tensors, expansion.filter(), other), Status::kArgument);
  EXPECT_EQ(launch(problem, tensors, expansion.filter(), still), Status::kArgument);
  tensors.residual = nullptr;
  EXPECT_EQ(launch(problem, tensors, expansion.filter(), convolution), Status::kNullPointer);
  tensors = expansion.tensors();
  tensors.x = static_cast<const unsigned char*>(tensors.x) + 8;
  EXPECT_EQ(launch(problem, tensors, expansion.filter(), convolution), Status::kMisaligned);
  SnCudaProblem bfloat16 = problem;
  bfloat16.data_type = 2;
  EXPECT_EQ(launch(bfloat16, expansion.tensors(), expansion.filter(), convolution), Status::kTactic);
  SnCudaProblem empty = problem;
  empty.batch = 0;
  EXPECT_EQ(launch(empty, expansion.tensors(), expansion.filter(), convolution), Status::kOk);
}

TEST(Convolution, ListsWhatItCanDoForAllLayersOfResNet50) {
  constexpr std::int64_t kLayers[][3] = {{64, 256, 56}, {128, 512, 28}, {256, 1024, 14}, {512, 2048, 7}};
  for (const auto& [depth, channels, size] : kLayers) {
    for (const std::int64_t batch : {1, 128}) {
      SnCudaProblem problem =
          Expansion({1, depth, 64, size, size, 1, Epilogue::kAddRelu, streamed(1, 1, 4, 1), 0.0}).problem();
      problem.batch = batch;
      problem.channels = problem.stored_channels = channels;
      Request request;
      ASSERT_EQ(request_from_c(&problem, true, &request), Status::kOk);
      DeviceLimits limits = kLimits;
      limits.multiprocessors = 132;
      std::vector<ConvolutionTactic> tactics(64);
      const std::int32_t count = list_convolution_tactics(request, problem, {depth, 1, size, size}, limits,
                                                          tactics.data(), static_cast<std::int32_t>(tactics.size()));
      EXPECT_GT(count, 1) << depth << " at batch " << batch;
      EXPECT_LT(count, 64);
      const auto is_kept = [](const ConvolutionTactic& tactic) { return tactic.product == Product::kKept; };
      const bool some = std::any_of(tactics.begin(), tactics.begin() + count, is_kept);
      const bool all = std::all_of(tactics.begin(), tactics.begin() + count, is_kept);
      EXPECT_TRUE(some || size == 56) << depth << " at batch " << batch;
      EXPECT_FALSE(all) << depth;
    }
  }
}

}  // namespace
}  // namespace sn_deploy::cuda::test
