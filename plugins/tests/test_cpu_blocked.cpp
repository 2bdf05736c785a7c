// The kernels on blocks of channels: every instruction set that this machine has, blocks of 8 and 16, every epilogue,
// against long double. The padding is always planted with NaN and infinities.
#include <gtest/gtest.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <limits>
#include <string>
#include <thread>
#include <tuple>
#include <vector>

#include "core/blocked.h"
#include "cpu/blocked.h"
#include "tests/cpu_case.h"

namespace sn_deploy::cpu {
namespace {

using Floats = std::vector<float>;

std::size_t stored(const Problem& problem, std::int64_t block) {
  return static_cast<std::size_t>(divide_up(problem.channels, block) * block);
}

// (N, C, HW) to (N, C' / B, HW, B), with `padding` where there is no channel.
Floats blocks_of(const Problem& problem, std::int64_t block, const Floats& plain, const Floats& padding) {
  const auto channels = static_cast<std::size_t>(problem.channels);
  const auto spatial = static_cast<std::size_t>(problem.spatial);
  const auto lanes = static_cast<std::size_t>(block);
  const std::size_t rows = stored(problem, block);
  Floats blocked(static_cast<std::size_t>(problem.batch) * rows * spatial);
  for (std::size_t n = 0; n < static_cast<std::size_t>(problem.batch); ++n) {
    for (std::size_t c = 0; c < rows; ++c) {
      for (std::size_t p = 0; p < spatial; ++p) {
        const std::size_t to = ((n * rows / lanes + c / lanes) * spatial + p) * lanes + c % lanes;
        blocked[to] = c < channels ? plain[(n * channels + c) * spatial + p] : padding[p % padding.size()];
      }
    }
  }
  return blocked;
}

// The other way; `padding` gets what was in the padding.
Floats plain_of(const Problem& problem, std::int64_t block, const Floats& blocked, Floats* padding) {
  const auto channels = static_cast<std::size_t>(problem.channels);
  const auto spatial = static_cast<std::size_t>(problem.spatial);
  const auto lanes = static_cast<std::size_t>(block);
  const std::size_t rows = stored(problem, block);
  Floats plain(static_cast<std::size_t>(problem.batch) * channels * spatial);
  for (std::size_t n = 0; n < static_cast<std::size_t>(problem.batch); ++n) {
    for (std::size_t c = 0; c < rows; ++c) {
      for (std::size_t p = 0; p < spatial; ++p) {
        const float value = blocked[((n * rows / lanes + c / lanes) * spatial + p) * lanes + c % lanes];
        if (c < channels) {
          plain[(n * channels + c) * spatial + p] = value;
        } else {
          padding->push_back(value);
        }
      }
    }
  }
  return plain;
}

Floats run(const Kernels& kernels, const Case& of, std::int64_t block, Epilogue epilogue,
           const Parallel& parallel = no_threads(), Place place = Place::kSeparate) {
  const float infinity = std::numeric_limits<float>::infinity();
  const Floats planted{std::nanf(""), infinity, -infinity, 1e30F};
  Floats x = blocks_of(of.problem, block, of.x, planted);
  Floats residual = blocks_of(of.problem, block, of.residual, planted);
  Floats y(x.size(), std::nanf(""));
  Floats* target = place == Place::kInX ? &x : (place == Place::kInResidual ? &residual : &y);
  // Filled with NaN: whatever is read before it is written shows.
  const std::int64_t bytes = blocked_workspace_bytes(of.problem, block);
  std::vector<double> workspace(static_cast<std::size_t>(bytes) / 8, std::nan(""));
  const Tensors tensors{x.data(),
                        of.layer.scale.data(),
                        of.layer.bias.data(),
                        of.layer.mean_offset.data(),
                        of.layer.var_offset.data(),
                        epilogue == Epilogue::kAddRelu ? residual.data() : nullptr,
                        target->data()};
  EXPECT_EQ(switch_norm_blocked_with(kernels, of.problem, block, of.weights(), epilogue, tensors, workspace.data(),
                                     bytes, parallel),
            Status::kOk);
  Floats padding;
  Floats plain = plain_of(of.problem, block, *target, &padding);
  EXPECT_EQ(padding, Floats(padding.size(), 0.0F));
  return plain;
}

double error(const Case& of, Epilogue epilogue, const Floats& y) {
  return error(of, epilogue, stored_as(DataType::kFloat32, y));
}

Problem problem_of(std::int64_t batch, std::int64_t channels, std::int64_t spatial, int ddof = 1) {
  return {batch, channels, spatial, true, ddof, DataType::kFloat32};
}

const Problem kProblems[] = {
    problem_of(2, 3, 2),       problem_of(1, 1, 49),     problem_of(2, 67, 49),   problem_of(1, 16, 196),
    problem_of(3, 5, 1, 0),    problem_of(2, 8, 127),    problem_of(1, 24, 128),  problem_of(2, 20, 129),
    problem_of(1, 37, 1023),   problem_of(1, 9, 1024),   problem_of(2, 17, 1025), problem_of(1, 2, 50001),
    problem_of(2, 130, 17, 0), problem_of(300, 2, 3),    problem_of(1, 300, 900), problem_of(5, 64, 784),
    problem_of(2, 2048, 49),   problem_of(1, 31, 12544), problem_of(9, 160, 196),
};

struct Way {
  const Kernels* kernels;
  std::int64_t block;
};

void PrintTo(const Way& way, std::ostream* out) { *out << way.kernels->name << "_" << way.block; }

class OnBlocks : public ::testing::TestWithParam<Way> {
 protected:
  Floats run_it(const Case& of, Epilogue epilogue, const Parallel& parallel = no_threads(),
                Place place = Place::kSeparate) const {
    return run(*GetParam().kernels, of, GetParam().block, epilogue, parallel, place);
  }
};

TEST_P(OnBlocks, EveryEpilogueAgreesWithTheReference) {
  for (const Problem& problem : kProblems) {
    const Case made = make_case(problem, 0.5);
    for (const Epilogue epilogue : kEveryEpilogue) {
      EXPECT_LE(error(made, epilogue, run_it(made, epilogue)), 1.0)
          << problem.batch << "x" << problem.channels << "x" << problem.spatial << " epilogue "
          << static_cast<int>(epilogue);
    }
  }
}

TEST_P(OnBlocks, ALargeMeanKeepsItsDigits) {
  for (const double mean : {1000.0, -1000.0}) {
    for (const std::int64_t spatial : {49, 196, 3136, 20000}) {
      const Case made = make_case(problem_of(1, 12, spatial), mean);
      EXPECT_LE(error(made, Epilogue::kNone, run_it(made, Epilogue::kNone)), 1.0) << spatial;
    }
  }
}

TEST_P(OnBlocks, StatisticsOfALargeMeanAreGoodToFiveDigits) {
  const std::int64_t block = GetParam().block;
  const BlockedKernels& kernels = GetParam().kernels->blocked[block == 8 ? 0 : 1];
  for (const std::int64_t positions : {2, 31, 49, 128, 129, 3136, 12544}) {
    const Case made = make_case(problem_of(1, block, positions), 1000.0);
    const Floats x = blocks_of(made.problem, block, made.x, {});
    std::vector<double> mean(static_cast<std::size_t>(block));
    std::vector<double> m2(static_cast<std::size_t>(block));
    kernels.moments(x.data(), positions, mean.data(), m2.data());
    for (std::int64_t c = 0; c < block; ++c) {
      const auto at = [&](std::int64_t i) {
        return static_cast<long double>(made.x[static_cast<std::size_t>(c * positions + i)]);
      };
      const Statistics<long double> exact = sn_deploy::testing::statistics(positions, 1, at);
      const auto own = static_cast<std::size_t>(c);
      EXPECT_LE(std::abs(mean[own] / static_cast<double>(exact.mean) - 1), 1e-9);
      EXPECT_LE(std::abs(m2[own] / static_cast<double>(exact.var) - 1), 1e-5);
    }
  }
}

// Each thread is late, so that others take its work and it takes theirs.
Parallel staggered_threads() {
  const auto run = [](void*, void (*task)(void*, std::size_t), void* context, std::size_t tasks) {
    std::vector<std::thread> threads;
    for (std::size_t t = 0; t < 3; ++t) {
      threads.emplace_back([=] {
        std::this_thread::sleep_for(std::chrono::microseconds(100 * t));
        for (std::size_t i = t * tasks / 3; i < (t + 1) * tasks / 3; ++i) task(context, i);
      });
    }
    for (std::thread& thread : threads) thread.join();
    return true;
  };
  return {run, nullptr};
}

TEST_P(OnBlocks, AnyThreadsGiveTheSameBits) {
  for (const Problem& problem : {problem_of(2, 67, 784), problem_of(3, 300, 49), problem_of(1, 20, 20000),
                                 problem_of(12, 40, 49), problem_of(4, 256, 784)}) {
    const Case made = make_case(problem);
    const Floats alone = run_it(made, Epilogue::kAddRelu);
    EXPECT_EQ(alone, run_it(made, Epilogue::kAddRelu, reversed()));
    for (int repeat = 0; repeat < 5; ++repeat) {
      EXPECT_EQ(alone, run_it(made, Epilogue::kAddRelu, four_threads()));
      EXPECT_EQ(alone, run_it(made, Epilogue::kAddRelu, staggered_threads()));
    }
  }
}

// Of several, only this one ever comes.
Parallel only_the_last() {
  const auto run = [](void*, void (*task)(void*, std::size_t), void* context, std::size_t tasks) {
    task(context, tasks - 1);
    return true;
  };
  return {run, nullptr};
}

TEST_P(OnBlocks, NothingWaitsForAThreadThatNeverComes) {
  for (const Problem& problem : {problem_of(2, 67, 784), problem_of(12, 40, 49)}) {
    const Case made = make_case(problem);
    EXPECT_EQ(run_it(made, Epilogue::kRelu), run_it(made, Epilogue::kRelu, only_the_last()));
  }
}

TEST_P(OnBlocks, ASampleHasTheSameBitsInAnyBatch) {
  for (const Problem& problem :
       {problem_of(7, 67, 49), problem_of(5, 3, 7), problem_of(3, 20, 3000), problem_of(60, 256, 4),
        problem_of(5, 16, 13200)}) {  // the last is more than the caches hold: its samples go backwards
    const Case whole = make_case(problem);
    const Floats y = run_it(whole, Epilogue::kAddRelu);
    const auto sample = static_cast<std::ptrdiff_t>(whole.x.size() / static_cast<std::size_t>(problem.batch));
    for (std::ptrdiff_t begin = 0; begin < static_cast<std::ptrdiff_t>(y.size()); begin += sample) {
      Case one = whole;
      one.problem.batch = 1;
      one.x.assign(whole.x.begin() + begin, whole.x.begin() + begin + sample);
      one.residual.assign(whole.residual.begin() + begin, whole.residual.begin() + begin + sample);
      EXPECT_EQ(run_it(one, Epilogue::kAddRelu), Floats(y.begin() + begin, y.begin() + begin + sample));
    }
  }
}

TEST_P(OnBlocks, YMayBeXOrTheResidual) {
  for (const Problem& problem : {problem_of(2, 67, 49), problem_of(1, 3, 784), problem_of(3, 20, 4000)}) {
    const Case made = make_case(problem);
    for (const Epilogue epilogue : kEveryEpilogue) {
      EXPECT_EQ(run_it(made, epilogue, four_threads(), Place::kInX), run_it(made, epilogue));
    }
    EXPECT_EQ(run_it(made, Epilogue::kAddRelu, four_threads(), Place::kInResidual), run_it(made, Epilogue::kAddRelu));
  }
}

TEST_P(OnBlocks, TensorsMayBeginAtAnyAddress) {
  const std::int64_t block = GetParam().block;
  for (const Problem& problem : {problem_of(2, 67, 49), problem_of(1, 20, 4000)}) {
    const Case made = make_case(problem);
    for (const Case& of : {made, without_statistics(made)}) {
      const std::int64_t bytes = blocked_workspace_bytes(problem, block);
      std::vector<double> workspace(static_cast<std::size_t>(bytes) / 8);
      const auto call = [&](const Tensors& tensors) {
        EXPECT_EQ(switch_norm_blocked_with(*GetParam().kernels, problem, block, of.weights(), Epilogue::kAddRelu,
                                           tensors, workspace.data(), bytes, no_threads()),
                  Status::kOk);
      };
      Floats padding;
      const Floats y = at_odd_addresses(of.layer, blocks_of(problem, block, of.x, {0.0F}),
                                        blocks_of(problem, block, of.residual, {0.0F}), call);
      EXPECT_EQ(plain_of(problem, block, y, &padding), run_it(of, Epilogue::kAddRelu));
    }
  }
}

TEST_P(OnBlocks, ManySamplesFillSeveralWaves) {
  const Case made = make_case(problem_of(20000, 2, 3));
  EXPECT_LE(error(made, Epilogue::kNone, run_it(made, Epilogue::kNone)), 1.0);
}

TEST_P(OnBlocks, NanStaysInItsSample) {
  Case made = make_case(problem_of(2, 5, 49));
  made.x[60] = std::nanf("");
  const Floats y = run_it(made, Epilogue::kRelu);
  EXPECT_TRUE(std::isnan(y[0])) << "the whole sample has NaN in its LN";
  EXPECT_FALSE(std::isnan(y[5 * 49])) << "the next sample has not";
}

TEST_P(OnBlocks, WithoutWeightsNoStatisticsAreTaken) {
  for (const Problem& problem : kProblems) {
    Case made = without_statistics(make_case(problem, 0.5));
    for (const Epilogue epilogue : kEveryEpilogue) {
      EXPECT_LE(error(made, epilogue, run_it(made, epilogue, four_threads())), 1.0)
          << problem.batch << "x" << problem.channels << "x" << problem.spatial;
    }
    // Statistics would carry one NaN to the whole sample.
    const Floats before = run_it(made, Epilogue::kNone);
    made.x[0] = std::nanf("");
    const Floats after = run_it(made, Epilogue::kNone);
    EXPECT_TRUE(std::isnan(after[0]));
    EXPECT_TRUE(std::equal(before.begin() + 1, before.end(), after.begin() + 1));
  }
}

// What the tolerance of these tests must catch.
TEST_P(OnBlocks, FaultsAreCaught) {
  const Case made = make_case(problem_of(2, 20, 49), 0.5);
  const auto error_with = [&](auto change) {
    Case changed = made;
    change(&changed);
    return error(made, Epilogue::kRelu, run_it(changed, Epilogue::kRelu));
  };
  EXPECT_LE(error_with([](Case*) {}), 1.0);
  EXPECT_GT(error_with([](Case* c) { std::swap(c->layer.mean_in, c->layer.mean_ln); }), 1.0);
  EXPECT_GT(error_with([](Case* c) { std::swap(c->layer.var_in, c->layer.var_ln); }), 1.0);
  EXPECT_GT(error_with([](Case* c) { c->problem.ddof = 0; }), 1.0);
  EXPECT_GT(error_with([](Case* c) { std::swap(c->layer.bias[2], c->layer.bias[17]); }), 1.0);
  EXPECT_GT(error(made, Epilogue::kRelu, run_it(made, Epilogue::kNone)), 1.0);
}

std::vector<Way> all_ways() {
  std::vector<Way> ways;
  for (const Kernels* kernels : all_kernels()) {
    for (const std::int64_t block : {8, 16}) {
      if (kernels->blocked[block == 8 ? 0 : 1].moments != nullptr) ways.push_back({kernels, block});
    }
  }
  return ways;
}

INSTANTIATE_TEST_SUITE_P(InstructionSets, OnBlocks, ::testing::ValuesIn(all_ways()), [](const auto& param) {
  return std::string(param.param.kernels->name) + "_" + std::to_string(param.param.block);
});

// --- Borders ------------------------------------------------------------------------------------------------------

TEST(Blocks, TheWidestThatFitIsTaken) {
  for (const std::int64_t block : {8, 16}) {
    const int index = block == 8 ? 0 : 1;
    EXPECT_NE(best_kernels(block).blocked[index].moments, nullptr);
    EXPECT_NE(kernels_of(InstructionSet::kBaseline)->blocked[index].moments, nullptr);
  }
  const Kernels* avx2 = kernels_of(InstructionSet::kAvx2);
  EXPECT_EQ(&best_kernels(8), avx2 != nullptr ? avx2 : kernels_of(InstructionSet::kBaseline));
  EXPECT_EQ(&best_kernels(16), &best_kernels());
}

struct Call {
  Problem problem = problem_of(1, 2, 4);
  std::int64_t block = 8;
  Weights weights{0.3F, 0.3F, 0.3F, 0.3F};
  Floats x = Floats(32, 1.0F), residual = x, y = x;
  Floats parameters = {1.0F, 1.0F};
  std::vector<double> workspace = std::vector<double>(1 << 18);
  Tensors tensors{x.data(),          parameters.data(), parameters.data(), parameters.data(),
                  parameters.data(), residual.data(),   y.data()};
  void* at = workspace.data();
  std::int64_t workspace_size = 8 << 18;
  Parallel parallel = no_threads();

  Status run() {
    return switch_norm_blocked(problem, block, weights, Epilogue::kAddRelu, tensors, at, workspace_size, parallel);
  }
};

TEST(Blocks, BadCallsAreRefused) {
  const auto status_with = [](auto change) {
    Call call;
    change(&call);
    return call.run();
  };
  EXPECT_EQ(status_with([](Call*) {}), Status::kOk);
  EXPECT_EQ(status_with([](Call* c) { c->block = 4; }), Status::kBlockSize);
  EXPECT_EQ(status_with([](Call* c) { c->problem.type = DataType::kFloat16; }), Status::kBlockedType);
  EXPECT_EQ(status_with([](Call* c) { c->problem.has_in = false; }), Status::kBlockedShape);
  EXPECT_EQ(status_with([](Call* c) { c->problem.ddof = 4; }), Status::kDdof);
  EXPECT_EQ(status_with([](Call* c) { c->problem.spatial = 1; }), Status::kTooFewValues);
  EXPECT_EQ(status_with([](Call* c) { c->problem.spatial = 0; }), Status::kEmptySpatial);
  EXPECT_EQ(status_with([](Call* c) { c->problem.channels = 0; }), Status::kNoChannels);
  EXPECT_EQ(status_with([](Call* c) { c->problem.channels = std::numeric_limits<std::int64_t>::max(); }),
            Status::kTooLarge);
  EXPECT_EQ(status_with([](Call* c) {  // with its padding, of 16 times as many channels
              c->problem = problem_of(1, 1, std::int64_t{1} << 58);
              c->block = 16;
            }),
            Status::kTooLarge);
  EXPECT_EQ(status_with([](Call* c) { c->weights.var_ln = NAN; }), Status::kWeightNotFinite);
  EXPECT_EQ(status_with([](Call* c) { c->tensors.x = nullptr; }), Status::kNullPointer);
  EXPECT_EQ(status_with([](Call* c) { c->tensors.residual = nullptr; }), Status::kNullPointer);
  EXPECT_EQ(status_with([](Call* c) { c->tensors.bias = nullptr; }), Status::kNullPointer);
  EXPECT_EQ(status_with([](Call* c) { c->workspace_size = 8; }), Status::kWorkspace);
  EXPECT_EQ(status_with([](Call* c) { c->at = nullptr; }), Status::kWorkspace);
  EXPECT_EQ(status_with([](Call* c) { c->at = reinterpret_cast<char*>(c->workspace.data()) + 4; }),
            Status::kMisaligned);
  EXPECT_EQ(status_with([](Call* c) {
              c->problem.spatial = 1 << 20;
              c->parallel = broken();
            }),
            Status::kThreads);
}

TEST(Blocks, VectorsLongerThanTheBlockAreRefused) {
  const Kernels* avx512 = kernels_of(InstructionSet::kAvx512);
  if (avx512 == nullptr) GTEST_SKIP() << "this processor has no AVX-512";
  Call c;
  EXPECT_EQ(switch_norm_blocked_with(*avx512, c.problem, 8, c.weights, Epilogue::kRelu, c.tensors, c.workspace.data(),
                                     c.workspace_size, no_threads()),
            Status::kArgument);
}

TEST(Blocks, AnEmptyBatchNeedsNoMemory) {
  Call call;
  call.problem.batch = 0;
  call.tensors = {};
  EXPECT_EQ(call.run(), Status::kOk);
  EXPECT_EQ(blocked_workspace_bytes(problem_of(0, 3, std::int64_t{1} << 60), 8), 0);
}

TEST(Blocks, TheWorkspaceIsSmall) {
  EXPECT_EQ(blocked_workspace_bytes(problem_of(1, 3, 1), 8), 0);  // no such problem
  EXPECT_LE(blocked_workspace_bytes(problem_of(1, 2048, 49), 16), 1 << 16);
  EXPECT_LE(blocked_workspace_bytes(problem_of(std::int64_t{1} << 40, 2, 2), 16), 2 << 20);
  EXPECT_LE(blocked_workspace_bytes(problem_of(1, 64, 1 << 22), 16), 8 << 20);
}

using Shape = std::vector<std::int64_t>;

Status status_of(const Shape& shape, std::int64_t parameters, std::int64_t block, Problem* problem = nullptr) {
  Problem own;
  return problem_from_blocked_shape(shape.data(), static_cast<std::int64_t>(shape.size()), parameters, block, 1,
                                    problem == nullptr ? &own : problem);
}

TEST(BlockedShape, TheParametersSayHowManyChannelsThereAre) {
  Problem problem;
  ASSERT_EQ(status_of({2, 24, 4, 5}, 20, 8, &problem), Status::kOk);
  EXPECT_EQ(problem.batch, 2);
  EXPECT_EQ(problem.channels, 20);
  EXPECT_EQ(problem.spatial, 20);
  EXPECT_TRUE(problem.has_in);
  EXPECT_EQ(status_of({0, 24, 4, 5}, 24, 8), Status::kOk);
}

TEST(BlockedShape, BadShapesAreRefused) {
  EXPECT_EQ(status_of({2, 24, 4, 5}, 20, 4), Status::kBlockSize);
  EXPECT_EQ(status_of({2, 24, 4, 5}, 20, 0), Status::kBlockSize);
  EXPECT_EQ(status_of({2, 24, 20}, 20, 8), Status::kBlockedShape);
  EXPECT_EQ(status_of({2, 24, 4, 5, 1}, 20, 8), Status::kBlockedShape);
  EXPECT_EQ(status_of({2, 20, 4, 5}, 20, 8), Status::kBlockedChannels);  // it isn't blocked
  EXPECT_EQ(status_of({2, 24, 4, 5}, 16, 8), Status::kBlockedChannels);
  EXPECT_EQ(status_of({2, 24, 4, 5}, 25, 8), Status::kBlockedChannels);
  EXPECT_EQ(status_of({2, 24, 4, 5}, 0, 8), Status::kBlockedChannels);
  EXPECT_EQ(status_of({2, 24, 4, 5}, -1, 8), Status::kBlockedChannels);
  EXPECT_EQ(status_of({2, 24, 0, 5}, 20, 8), Status::kEmptySpatial);
  EXPECT_EQ(status_of({2, 24, 1, 1}, 20, 8), Status::kTooFewValues);
  EXPECT_EQ(status_of({2, -24, 1, 1}, 20, 8), Status::kNegativeExtent);
  const Shape shape{2, 24, 4, 5};
  Problem problem;
  EXPECT_EQ(problem_from_blocked_shape(nullptr, 4, 20, 8, 1, &problem), Status::kNullPointer);
  EXPECT_EQ(problem_from_blocked_shape(shape.data(), 4, 20, 8, 1, nullptr), Status::kNullPointer);
}

}  // namespace
}  // namespace sn_deploy::cpu
