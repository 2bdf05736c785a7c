// What the kernels compute, against float64, for every tactic, layout, type and epilogue.
#include <gtest/gtest.h>

#include <algorithm>
#include <cstddef>
#include <utility>
#include <vector>

#include "cuda/kernels/elements.h"
#include "cuda/tests/host_kernels.h"
#include "cuda/tests/sample.h"

namespace sn_deploy::cuda::test {
namespace {

// Rounding of Y to its type, and the float32 statistics.
double tolerance(DataType type) {
  switch (type) {
    case DataType::kFloat32:
      return 2e-6;
    case DataType::kFloat16:
      return 6e-4;
    case DataType::kBfloat16:
      return 5e-3;
  }
  return 0.0;
}

struct How {
  Tactic tactic;
  std::int64_t blocks;
};
constexpr How kHows[] = {{Tactic::kOneBlock, 1},    {Tactic::kCluster, 2},     {Tactic::kCluster, 4},
                         {Tactic::kCooperative, 2}, {Tactic::kCooperative, 4}, {Tactic::kTwoKernels, 1}};

Case case_of(const How& how) {
  Case c;
  c.tactic = how.tactic;
  c.blocks = how.blocks;
  return c;
}

void expect_right(const Case& c) {
  Sample sample(c);
  ASSERT_EQ(sample.run(), Status::kOk) << c.name();
  EXPECT_LE(sample.error(), tolerance(c.type)) << c.name();
}

// Sizes that fill vectors and rows of threads, and sizes that don't; more blocks than channels or positions; several
// warps a row, and several rows a warp.
struct Size {
  std::int64_t channels, spatial;
};

TEST(Kernels, AreRightInTheLinearLayout) {
  for (const How& how : kHows) {
    for (const Size& size : {Size{16, 24}, {5, 49}, {3, 600}, {1, 2}, {33, 8}, {2, 2049}}) {
      Case c = case_of(how);
      c.channels = size.channels;
      c.spatial = size.spatial;
      expect_right(c);
    }
  }
}

TEST(Kernels, AreRightInChannelsLast) {
  for (const How& how : kHows) {
    for (const Size& size : {Size{16, 24}, {20, 49}, {3, 70}, {9, 2}, {40, 300}, {257, 5}}) {
      Case c = case_of(how);
      c.channels = size.channels;
      c.spatial = size.spatial;
      c.layout = Layout::kChannelsLast;
      expect_right(c);
      c.type = DataType::kFloat16;
      c.padded_to = 8;
      expect_right(c);
    }
  }
}

TEST(Kernels, TakeEveryTypeAndEpilogue) {
  for (const DataType type : {DataType::kFloat32, DataType::kFloat16, DataType::kBfloat16}) {
    for (const Epilogue epilogue : {Epilogue::kNone, Epilogue::kRelu, Epilogue::kAddRelu}) {
      for (const How& how : {How{Tactic::kOneBlock, 1}, {Tactic::kCooperative, 2}, {Tactic::kTwoKernels, 1}}) {
        for (const Layout layout : {Layout::kLinear, Layout::kChannelsLast}) {
          Case c = case_of(how);
          c.type = type;
          c.epilogue = epilogue;
          c.layout = layout;
          c.channels = 12;
          c.spatial = 40;
          c.padded_to = layout == Layout::kChannelsLast ? 8 : 1;
          expect_right(c);
        }
      }
    }
  }
}

TEST(Kernels, TakeRankTwo) {
  for (const DataType type : {DataType::kFloat32, DataType::kFloat16}) {
    for (const Epilogue epilogue : {Epilogue::kNone, Epilogue::kRelu, Epilogue::kAddRelu}) {
      for (const std::int64_t channels : {2, 10, 64, 1000, 4096}) {
        for (const int ddof : {0, 1}) {
          Case c;
          c.has_in = false;
          c.spatial = 1;
          c.channels = channels;
          c.type = type;
          c.epilogue = epilogue;
          c.ddof = ddof;
          expect_right(c);
        }
      }
    }
  }
}

TEST(Kernels, TakeABiasedVarianceDownToOnePosition) {
  for (const How& how : kHows) {
    for (const std::int64_t spatial : {1, 7}) {
      Case c = case_of(how);
      c.ddof = 0;
      c.spatial = spatial;
      expect_right(c);
      c.layout = Layout::kChannelsLast;
      expect_right(c);
    }
  }
}

TEST(Kernels, TakeAddressesThatAllowNoVectors) {
  for (const How& how : {How{Tactic::kOneBlock, 1}, {Tactic::kCluster, 2}, {Tactic::kTwoKernels, 1}}) {
    for (const Layout layout : {Layout::kLinear, Layout::kChannelsLast}) {
      Case c = case_of(how);
      c.type = DataType::kFloat16;
      c.layout = layout;
      c.channels = 13;
      c.padded_to = layout == Layout::kChannelsLast ? 8 : 1;
      c.aligned = false;
      c.epilogue = Epilogue::kAddRelu;
      expect_right(c);
    }
  }
}

TEST(Kernels, ReadASliceTwiceWhereItDoesntFit) {
  for (const How& how : {How{Tactic::kOneBlock, 1}, {Tactic::kCluster, 4}, {Tactic::kCooperative, 2}}) {
    for (const Layout layout : {Layout::kLinear, Layout::kChannelsLast}) {
      Case c = case_of(how);
      c.layout = layout;
      c.channels = 8;
      c.spatial = 512;
      Sample fits(c);
      ASSERT_EQ(fits.run(), Status::kOk);
      EXPECT_TRUE(fits.plan().resident);
      c.limits.shared_bytes = fits.plan().shared_bytes;
      Sample just_fits(c);
      ASSERT_EQ(just_fits.run(), Status::kOk);
      EXPECT_TRUE(just_fits.plan().resident);
      c.limits.shared_bytes -= 1;
      Sample does_not(c);
      ASSERT_EQ(does_not.run(), Status::kOk);
      EXPECT_FALSE(does_not.plan().resident);
      EXPECT_LE(does_not.error(), tolerance(c.type)) << c.name();
      EXPECT_LE(fits.error(), tolerance(c.type)) << c.name();
      // Channels-last, sums go by the pieces in which a slice comes.
      if (layout == Layout::kLinear) {
        EXPECT_EQ(does_not.bytes_of_y(), fits.bytes_of_y()) << c.name();
      }
    }
  }
}

void expect_digits_kept(Case c) {
  c.deviation = 1.0;
  c.mean = 1000.0;
  Sample sample(c);
  ASSERT_EQ(sample.run(), Status::kOk);
  // The mean itself has a relative error of 6e-8 in float32: 6e-5 deviations, times a scale of 2.
  EXPECT_LE(sample.error(), 5e-4) << c.name();
}

TEST(Kernels, KeepTheDigitsOfAVarianceBesideALargeMean) {
  for (const How& how : kHows) {
    for (const Layout layout : {Layout::kLinear, Layout::kChannelsLast}) {
      Case c = case_of(how);
      c.layout = layout;
      c.spatial = 300;
      c.channels = 8;
      expect_digits_kept(c);
    }
  }
}

// LN's sums of the channels' means are about the first one, and once more about their own mean where that is far off.
TEST(Kernels, KeepTheDigitsOfTheLayersVarianceBesideOneChannelThatIsFarOff) {
  for (const How& how : kHows) {
    for (const Layout layout : {Layout::kLinear, Layout::kChannelsLast}) {
      Case c = case_of(how);
      c.layout = layout;
      c.batch = 1;
      c.channels = 1000;
      c.spatial = 8;
      c.first_channel = 300.0;
      expect_right(c);
    }
  }
}

// Sums are about the mean of a few values, and once more about the mean that they gave where that is far off.
TEST(Kernels, KeepTheDigitsOfAVarianceBesideAValueThatIsFarOff) {
  const How with_queue[] = {
      {Tactic::kOneBlock, 1}, {Tactic::kCluster, 4}, {Tactic::kTwoKernels, 1}, {Tactic::kQueue, 2}};
  for (const How& how : with_queue) {
    for (const Layout layout : {Layout::kLinear, Layout::kChannelsLast}) {
      for (const std::int64_t channels : {1, 8}) {  // several warps a row, and few lanes
        Case c = case_of(how);
        c.batch = 1;
        c.layout = layout;
        c.channels = channels;
        c.padded_to = layout == Layout::kChannelsLast ? 4 : 1;
        c.spatial = 4000;
        c.deviation = 1.0;
        c.first_value = 1e4;
        expect_right(c);
      }
    }
  }
}

// The plan that Y's place must not matter to.
Plan expect_right_in_place(Case c) {
  Sample elsewhere(c);
  EXPECT_EQ(elsewhere.run(), Status::kOk) << c.name();
  EXPECT_LE(elsewhere.error(), tolerance(c.type)) << c.name();
  for (const Case::Y y : {Case::Y::kInX, Case::Y::kInResidual}) {
    c.y = y;
    Sample in_place(c);
    EXPECT_EQ(in_place.run(), Status::kOk) << c.name();
    EXPECT_EQ(in_place.bytes_of_y(), elsewhere.bytes_of_y()) << c.name();
  }
  return elsewhere.plan();
}

TEST(Kernels, MayWriteYInPlaceOfXOrOfTheResidual) {
  for (const How& how :
       {How{Tactic::kOneBlock, 1}, {Tactic::kCluster, 2}, {Tactic::kCooperative, 2}, {Tactic::kTwoKernels, 1}}) {
    for (const Layout layout : {Layout::kLinear, Layout::kChannelsLast}) {
      Case c = case_of(how);
      c.layout = layout;
      c.type = DataType::kFloat16;
      c.channels = 11;
      c.spatial = 48;
      c.batch = 1;
      c.padded_to = layout == Layout::kChannelsLast ? 8 : 1;
      c.epilogue = Epilogue::kAddRelu;
      const Plan plan = expect_right_in_place(c);
      if (!plan.resident) continue;
      c.limits.shared_bytes = plan.shared_bytes - 1;  // X is read twice
      EXPECT_FALSE(expect_right_in_place(c).resident);
    }
  }
  Case c;
  c.has_in = false;
  c.spatial = 1;
  c.channels = 100;
  c.epilogue = Epilogue::kAddRelu;
  expect_right_in_place(c);
}

// The cooperative barrier and the exchange's two buffers: one group goes through several samples.
TEST(Kernels, GoThroughSeveralSamples) {
  for (const How& how : {How{Tactic::kOneBlock, 1}, {Tactic::kCluster, 2}, {Tactic::kCooperative, 2}}) {
    for (const auto& [channels, layout] : {std::pair{1, Layout::kLinear},  // by positions, and by channels
                                           {16, Layout::kLinear},
                                           {8, Layout::kChannelsLast},
                                           {64, Layout::kChannelsLast}}) {
      Case c = case_of(how);
      c.layout = layout;
      c.batch = 5;
      c.channels = channels;
      c.limits.multiprocessors = 2;
      Sample sample(c);
      ASSERT_EQ(sample.run([](Launch& launch) {
        launch.grid = launch.grid / launch.arguments.groups * (launch.cooperative ? launch.arguments.groups : 2);
        if (!launch.cooperative) launch.arguments.groups = 2;
      }),
                Status::kOk);
      EXPECT_LE(sample.error(), tolerance(c.type)) << c.name();
    }
  }
}

TEST(Kernels, GiveASampleTheSameBitsInAnyBatchAndAgain) {
  for (const How& how : kHows) {
    for (const Layout layout : {Layout::kLinear, Layout::kChannelsLast}) {
      Case c = case_of(how);
      c.layout = layout;
      c.spatial = 100;
      c.batch = 3;
      Sample three(c);
      Sample again(c);
      ASSERT_EQ(three.run(), Status::kOk);
      ASSERT_EQ(again.run(), Status::kOk);
      EXPECT_EQ(three.bytes_of_y(), again.bytes_of_y());
      c.batch = 1;
      Sample one(c);
      ASSERT_EQ(one.run(), Status::kOk);
      const std::vector<unsigned char> alone = one.bytes_of_y();
      std::vector<unsigned char> first = three.bytes_of_y();
      first.resize(alone.size());
      EXPECT_EQ(first, alone) << c.name();
    }
  }
}

// Wherever it begins in memory: of samples whose size is no multiple of 16 bytes some can be fetched in pieces by the
// GPU's copy engine, and others can't.
TEST(Kernels, GiveASampleTheSameBitsAtAnyPlaceInABatch) {
  for (const How& how : kHows) {
    for (const Layout layout : {Layout::kLinear, Layout::kChannelsLast}) {
      Case c = case_of(how);
      c.layout = layout;
      c.channels = 3;
      c.spatial = how.blocks == 4 ? 155 : 79;  // 40 positions a block
      c.batch = 3;
      Sample all(c);
      ASSERT_EQ(all.run(), Status::kOk);
      const std::vector<unsigned char> together = all.bytes_of_y();
      c.batch = 1;
      for (unsigned n = 0; n < 3; ++n) {
        c.first_sample = n;
        Sample one(c);
        ASSERT_EQ(one.run(), Status::kOk);
        const std::vector<unsigned char> alone = one.bytes_of_y();
        const auto begin = together.begin() + static_cast<std::ptrdiff_t>(n * alone.size());
        EXPECT_TRUE(std::equal(alone.begin(), alone.end(), begin)) << n << " of " << c.name();
      }
    }
  }
}

// Items that are kept in shared memory and such that aren't; moments of all channels that are, and too many; a part of
// a sample that has fewer positions than the others; slices of the second kernel that begin within the channels.
TEST(Kernels, TakeAnySizeInTwoKernels) {
  for (const Size& size : {Size{2100, 4}, {40, 1000}, {70, 1300}, {300, 40}, {3, 9000}}) {
    for (const Layout layout : {Layout::kLinear, Layout::kChannelsLast}) {
      for (const DataType type : {DataType::kFloat16, DataType::kFloat32}) {
        Case c;
        c.tactic = Tactic::kTwoKernels;
        c.batch = 1;
        c.channels = size.channels;
        c.spatial = size.spatial;
        c.type = type;
        c.layout = layout;
        c.padded_to = layout == Layout::kChannelsLast ? 8 : 1;
        Sample kept(c);
        ASSERT_EQ(kept.run(), Status::kOk);
        EXPECT_TRUE(kept.plan().resident) << c.name();
        EXPECT_LE(kept.error(), tolerance(type)) << c.name();
        c.limits.shared_bytes = kept.plan().shared_bytes - 1;
        Sample read(c);
        ASSERT_EQ(read.run(), Status::kOk);
        EXPECT_FALSE(read.plan().resident) << c.name();
        EXPECT_EQ(read.bytes_of_y(), kept.bytes_of_y()) << c.name();
      }
    }
  }
}

TEST(Kernels, SkipNothingWhereTheSecondKernelHasFewBlocks) {
  Case c;
  c.tactic = Tactic::kTwoKernels;
  c.channels = 24;
  c.spatial = 2000;
  c.type = DataType::kFloat16;
  for (const int multiprocessors : {1, 3, 32}) {
    c.limits.multiprocessors = multiprocessors;
    expect_right(c);
    Case last = c;
    last.layout = Layout::kChannelsLast;
    expect_right(last);
  }
}

Case in_a_queue(Layout layout, DataType type, const Size& size) {
  Case c;
  c.channels = size.channels;
  c.spatial = size.spatial;
  c.tactic = Tactic::kQueue;
  c.blocks = 2;
  c.batch = 5;
  c.layout = layout;
  c.type = type;
  c.padded_to = layout == Layout::kChannelsLast ? 8 : 1;
  return c;
}

TEST(Kernels, TakeEveryTypeAndEpilogueInAQueue) {
  for (const DataType type : {DataType::kFloat32, DataType::kFloat16, DataType::kBfloat16}) {
    for (const Epilogue epilogue : {Epilogue::kNone, Epilogue::kRelu, Epilogue::kAddRelu}) {
      for (const Layout layout : {Layout::kLinear, Layout::kChannelsLast}) {
        Case c = in_a_queue(layout, type, {12, 40});
        c.epilogue = epilogue;
        expect_right(c);
        c.ddof = 0;
        c.spatial = 8;
        expect_right(c);
      }
    }
  }
}

// Items of many channels and of one part of their positions; several slices to apply in channels and in positions; a
// last part that is shorter, or empty; more channels than threads; few and many samples ahead.
TEST(Kernels, TakeAnySizeInAQueue) {
  for (const Size& size : {Size{1, 8}, {600, 8}, {40, 1000}, {70, 1304}, {300, 40}, {9, 5000}, {1030, 24}}) {
    for (const Layout layout : {Layout::kLinear, Layout::kChannelsLast}) {
      for (const DataType type : {DataType::kFloat16, DataType::kFloat32}) {
        Case c = in_a_queue(layout, type, size);
        c.batch = size.channels * size.spatial > 20000 ? 2 : 6;
        c.limits.multiprocessors = type == DataType::kFloat16 ? 1 : 4;
        c.tactic = layout == Layout::kLinear ? Tactic::kQueue : Tactic::kLargeQueue;
        expect_right(c);
      }
    }
  }
}

// In any batch, with any number of blocks, and however far it is ahead.
TEST(Kernels, GiveASampleTheSameBitsInAnyQueue) {
  for (const Layout layout : {Layout::kLinear, Layout::kChannelsLast}) {
    Case c = in_a_queue(layout, DataType::kFloat16, {8, 14000});
    c.batch = 2;
    c.limits.multiprocessors = 1;
    Sample many(c);
    ASSERT_EQ(many.run(), Status::kOk);
    EXPECT_LE(many.error(), tolerance(c.type));
    EXPECT_GT(many.plan().blocks_per_sample, 1);
    Sample few(c);
    ASSERT_EQ(few.run([](Launch& launch) { launch.grid = 1; }), Status::kOk);
    EXPECT_EQ(few.bytes_of_y(), many.bytes_of_y());
    c.blocks = 64;
    Sample ahead(c);
    ASSERT_EQ(ahead.run(), Status::kOk);
    EXPECT_EQ(ahead.bytes_of_y(), many.bytes_of_y());
    c.batch = 1;
    Sample one(c);
    ASSERT_EQ(one.run(), Status::kOk);
    const std::vector<unsigned char> alone = one.bytes_of_y();
    std::vector<unsigned char> first = many.bytes_of_y();
    first.resize(alone.size());
    EXPECT_EQ(first, alone);
  }
}

TEST(Kernels, MayWriteYInPlaceOfXOrOfTheResidualInAQueue) {
  for (const Layout layout : {Layout::kLinear, Layout::kChannelsLast}) {
    for (const Size& size : {Size{11, 48}, {2, 400}}) {  // several rows a warp, and several warps a row
      Case c = in_a_queue(layout, DataType::kFloat16, size);
      c.epilogue = Epilogue::kAddRelu;
      expect_right_in_place(c);
    }
  }
}

TEST(Kernels, KeepTheDigitsOfAVarianceBesideALargeMeanInAQueue) {
  for (const Layout layout : {Layout::kLinear, Layout::kChannelsLast}) {
    expect_digits_kept(in_a_queue(layout, DataType::kFloat32, {8, 4000}));
  }
}

// All counters, those of samples that fill the last cache line too, and nothing behind them.
TEST(Kernels, AQueuesCountersAreZeroedBeforeIt) {
  for (const std::int64_t batch : {1, 32, 300, 5000}) {
    Case c = in_a_queue(Layout::kLinear, DataType::kFloat32, {1, 8});
    c.batch = batch;
    const Sample sample(c);
    const Request request = sample.request();
    Plan plan;
    ASSERT_EQ(make_plan(request.problem, request.storage, c.limits, c.tactic, c.blocks, &plan), Status::kOk);
    const Buffer workspace(plan.workspace_bytes, true);
    test::run(prepare(request, sample.problem(), sample.tensors(), plan, 8, workspace.get()).list[0]);
    const auto* words = static_cast<const unsigned*>(workspace.get());
    const std::int64_t counters = kBarrierBytes / 4 + batch;
    const std::int64_t all = divide_up(counters, 32) * 32;
    EXPECT_EQ(std::count(words, words + all, 0U), all) << batch;
    EXPECT_NE(words[all], 0U);
  }
  Case c = in_a_queue(Layout::kLinear, DataType::kFloat32, {3, 8});
  c.batch = 32;
  expect_right(c);
}

// What is merged in shared memory, and what has no room there.
TEST(Kernels, MergeManyChannelsInAQueue) {
  for (const std::int64_t channels : {1300, 1500}) {
    Case c = in_a_queue(Layout::kLinear, DataType::kFloat16, {channels, 8});
    c.batch = 2;
    Sample sample(c);
    ASSERT_EQ(sample.run(), Status::kOk);
    EXPECT_EQ(channels * 12 <= sample.plan().slice_bytes, channels == 1300);
    EXPECT_LE(sample.error(), tolerance(c.type)) << c.name();
  }
}

TEST(Kernels, FaultsInAQueueAreCaught) {
  using Fault = void (*)(Launch&);
  const Fault faults[] = {
      [](Launch& launch) { launch.arguments.apply_items -= 1; },
      [](Launch& launch) { launch.arguments.collect_items -= 1; },
      [](Launch& launch) { launch.arguments.in_divisor += 1.0F; },
      [](Launch& launch) { launch.arguments.weights.mean_rest = 0.0F; },
  };
  for (const Fault& fault : faults) {
    for (const Layout layout : {Layout::kLinear, Layout::kChannelsLast}) {
      Case c = in_a_queue(layout, DataType::kFloat32, {64, 200});
      c.batch = 2;
      Sample sample(c);
      ASSERT_EQ(sample.run(fault), Status::kOk);
      EXPECT_GT(sample.plan().blocks_per_sample * divide_up(c.channels, sample.plan().channels_per_block), 1);
      EXPECT_GT(sample.error(), 10 * tolerance(c.type));
    }
  }
}

// Where an item waits for what stands behind it, nothing goes on; the test ends then, and doesn't wait itself.
TEST(Kernels, AQueueThatWouldHangIsCaught) {
#if defined(__SANITIZE_THREAD__)
  GTEST_SKIP() << "the thread sanitizer doesn't get through the end of a process that was forked";
#endif
  Case c = in_a_queue(Layout::kLinear, DataType::kFloat32, {4, 16});
  const auto spoil = [](Launch& launch) {
    launch.arguments.lead = 0;
    launch.grid = 1;
  };
  EXPECT_DEATH(Sample(c).run(spoil), "threads wait for each other");
}

// LN has every channel see it, ReLU doesn't hide it, and other samples know nothing of it.
TEST(Kernels, KeepANanToItsSample) {
  for (const How& how : {How{Tactic::kOneBlock, 1},
                         {Tactic::kCluster, 2},
                         {Tactic::kCooperative, 2},
                         {Tactic::kTwoKernels, 1},
                         {Tactic::kQueue, 2},
                         {Tactic::kLargeQueue, 4}}) {
    for (const Layout layout : {Layout::kLinear, Layout::kChannelsLast}) {
      Case c = case_of(how);
      c.batch = 3;
      c.layout = layout;
      c.epilogue = Epilogue::kRelu;
      Sample right(c);
      ASSERT_EQ(right.run(), Status::kOk);
      Sample sample(c);
      sample.put_nan(1, 5, 7);
      ASSERT_EQ(sample.run(), Status::kOk);
      for (std::int64_t channel = 0; channel < c.channels; ++channel) {
        for (std::int64_t p = 0; p < c.spatial; ++p) {
          EXPECT_TRUE(sample.is_nan(1, channel, p)) << c.name();
        }
      }
      const std::vector<unsigned char> expected = right.bytes_of_y();
      const std::vector<unsigned char> got = sample.bytes_of_y();
      const auto third = static_cast<std::ptrdiff_t>(got.size() / 3);
      EXPECT_TRUE(std::equal(got.begin(), got.begin() + third, expected.begin())) << c.name();
      EXPECT_TRUE(std::equal(got.end() - third, got.end(), expected.end() - third)) << c.name();
    }
  }
}

// Each of these has to be seen by the comparison above.
TEST(Kernels, FaultsAreCaught) {
  using Fault = void (*)(Launch&);
  const Fault faults[] = {
      [](Launch& launch) { launch.arguments.in_divisor += 1.0F; },
      [](Launch& launch) { launch.arguments.weights.mean_rest = 0.0F; },
      [](Launch& launch) { launch.arguments.channels -= 1; },
      [](Launch& launch) { launch.arguments.bias = launch.arguments.scale; },
      [](Launch& launch) { launch.arguments.epilogue = 1; },
  };
  for (const Fault& fault : faults) {
    for (const Tactic tactic : {Tactic::kOneBlock, Tactic::kTwoKernels}) {
      Case c;
      c.tactic = tactic;
      Sample sample(c);
      ASSERT_EQ(sample.run(fault), Status::kOk);
      EXPECT_GT(sample.error(), 10 * tolerance(c.type));
    }
  }
}

}  // namespace
}  // namespace sn_deploy::cuda::test
