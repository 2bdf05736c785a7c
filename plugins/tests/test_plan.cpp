// Launch planning: what every plan must keep, on the sizes of real networks, tiny ones and ones past 32 bits.
#include <gtest/gtest.h>

#include <cstdint>
#include <initializer_list>
#include <limits>
#include <string>
#include <tuple>
#include <vector>

#include "core/plan.h"

namespace sn_deploy {
namespace {

DeviceLimits hopper() { return {132, 227 * 1024, 16, true}; }
DeviceLimits ampere() { return {108, 163 * 1024, 1, true}; }
DeviceLimits turing() { return {40, 64 * 1024, 1, true}; }

Problem problem_of(std::int64_t n, std::int64_t c, std::int64_t hw, DataType type = DataType::kFloat16) {
  return {n, c, hw, true, 1, type};
}

std::vector<Problem> problems() {
  std::vector<Problem> all;
  for (const std::int64_t n : {1, 2, 8, 128}) {
    for (const DataType type : {DataType::kFloat32, DataType::kFloat16}) {
      for (const auto& [c, hw] : std::vector<std::pair<std::int64_t, std::int64_t>>{{64, 12544},
                                                                                    {64, 3136},
                                                                                    {256, 3136},
                                                                                    {512, 784},
                                                                                    {1024, 196},
                                                                                    {2048, 49},
                                                                                    {1, 2},
                                                                                    {1, 1 << 20},
                                                                                    {3, 7},
                                                                                    {17, 33},
                                                                                    {100000, 4},
                                                                                    {5, 1000003},
                                                                                    {65, 512}}) {
        all.push_back(problem_of(n, c, hw, type));
      }
    }
  }
  return all;
}

void expect_sound(const Problem& problem, const DeviceLimits& limits, const Plan& plan) {
  EXPECT_LE(plan.shared_bytes, limits.shared_bytes);
  EXPECT_GE(plan.groups, problem.batch == 0 ? 0 : 1);
  EXPECT_LE(plan.groups, problem.batch);
  EXPECT_LE(plan.grid_blocks(), kMaxGridBlocks);
  EXPECT_EQ(plan.threads & (plan.threads - 1), 0);
  EXPECT_GE(plan.threads, 32);
  EXPECT_LE(plan.threads, kMaxThreads);
  if (plan.resident && 2 * plan.shared_bytes <= limits.shared_bytes) {
    EXPECT_LE(2 * plan.threads, kMaxThreads);  // two blocks of a multiprocessor fit in its registers, too
  }
  EXPECT_EQ(plan.slice_bytes % kVectorBytes, 0);
  EXPECT_EQ(plan.constants_bytes % kVectorBytes, 0);
  EXPECT_EQ(plan.resident, plan.slice_bytes > 0);
  if (plan.tactic == Tactic::kOneBlock) {
    EXPECT_EQ(plan.split, Split::kChannels);  // there is nobody to exchange moments with
  }
  if (!plan.resident && problem.has_in && plan.tactic != Tactic::kTwoKernels) {
    EXPECT_GT(plan.vector_elements, 1);  // there is no such kernel
  }
  // The slices cover the sample.
  if (plan.split == Split::kChannels) {
    EXPECT_GE(plan.channels_per_block * plan.blocks_per_sample, problem.channels);
    EXPECT_EQ(plan.spatial_per_block, problem.spatial);
  } else {
    EXPECT_GE(plan.spatial_per_block * plan.blocks_per_sample, problem.spatial);
    EXPECT_EQ(plan.spatial_per_block % plan.vector_elements, 0);
  }
  if (plan.tactic == Tactic::kCooperative) {
    EXPECT_LE(plan.grid_blocks(), limits.multiprocessors);  // all must be resident at once
    EXPECT_GT(plan.workspace_bytes, 0);
  }
  if (plan.tactic == Tactic::kCluster) {
    EXPECT_LE(plan.blocks_per_sample, limits.max_cluster);
  }
  if (is_queue(plan.tactic)) {
    EXPECT_GT(plan.workspace_bytes, 0);
  }
  if (plan.tactic == Tactic::kOneBlock || plan.tactic == Tactic::kCluster) {
    EXPECT_EQ(plan.workspace_bytes, 0);
  }
}

TEST(Plan, AllListedPlansAreSound) {
  for (const DeviceLimits& limits : {hopper(), turing()}) {
    for (const Problem& problem : problems()) {
      Plan plans[16];
      const int count = list_plans(problem, {}, limits, plans, 16);
      ASSERT_GE(count, 1);
      EXPECT_EQ(plans[count - 1].tactic, Tactic::kTwoKernels);  // the fallback is always there
      for (int i = 0; i < count; ++i) expect_sound(problem, limits, plans[i]);
      Plan chosen;
      ASSERT_EQ(choose_plan(problem, {}, limits, &chosen), Status::kOk);
      expect_sound(problem, limits, chosen);
    }
  }
}

// With any other status a caller would not try another tactic.
TEST(Plan, WhatCantRunIsAnothersTurn) {
  int refused = 0;
  const Tactic all[] = {Tactic::kOneBlock,   Tactic::kCluster, Tactic::kCooperative,
                        Tactic::kTwoKernels, Tactic::kQueue,   Tactic::kLargeQueue};
  for (const DeviceLimits& limits : {hopper(), turing(), DeviceLimits{8, 16 * 1024, 1, false}}) {
    for (const Problem& problem : problems()) {
      for (const Layout layout : {Layout::kLinear, Layout::kChannelsLast}) {
        const Storage storage{layout, layout == Layout::kLinear ? 0 : problem.channels, true};
        for (const Tactic tactic : all) {
          for (const std::int64_t blocks : {2, 64}) {
            Plan plan;
            const Status status = make_plan(problem, storage, limits, tactic, blocks, &plan);
            if (status == Status::kOk) {
              expect_sound(problem, limits, plan);
            } else {
              EXPECT_EQ(status, Status::kTactic);
              EXPECT_NE(tactic, Tactic::kTwoKernels);
              ++refused;
            }
          }
        }
      }
    }
  }
  EXPECT_GT(refused, 100);
}

// "cluster 8", with a star where the slice doesn't stay in shared memory.
std::string name_of(const Plan& plan) {
  const char* const names[] = {"", "one block", "cluster", "cooperative", "two kernels", "queue", "large queue"};
  std::string name = names[static_cast<int>(plan.tactic)];
  if (is_queue(plan.tactic)) name += " " + std::to_string(plan.ahead);
  if (plan.tactic == Tactic::kCluster || plan.tactic == Tactic::kCooperative) {
    name += " " + std::to_string(plan.blocks_per_sample);
  }
  return name + (plan.resident ? "" : "*");
}

std::string offered(const Problem& problem, const Storage& storage, const DeviceLimits& limits) {
  Plan plans[16];
  const int count = list_plans(problem, storage, limits, plans, 16);
  std::string names;
  for (int i = 0; i < count; ++i) names += (i == 0 ? "" : ", ") + name_of(plans[i]);
  return names;
}

Storage channels_last(std::int64_t channels) { return {Layout::kChannelsLast, channels, true}; }

TEST(Plan, OffersWhatTheDeviceCanRunAndTheSizeIsWorth) {
  DeviceLimits hopper_alone = hopper();
  hopper_alone.cooperative = false;  // code that has clusters has no other co-resident blocks
  EXPECT_EQ(offered(problem_of(32, 256, 3136), channels_last(256), hopper_alone),
            "one block*, cluster 2*, cluster 4*, cluster 8, cluster 16, queue 2, queue 4, large queue 4, two kernels");
  EXPECT_EQ(offered(problem_of(32, 64, 12544), {}, ampere()),
            "one block*, cooperative 8*, cooperative 16, cooperative 32, cooperative 64, queue 2, queue 4, "
            "large queue 4, two kernels");
  // 64 blocks need as many multiprocessors.
  EXPECT_EQ(offered(problem_of(1, 64, 3136), {}, turing()),
            "one block*, cooperative 8, cooperative 16, cooperative 32, queue 2, two kernels");
  // Half of the device has work, but nothing would be further ahead than one sample.
  EXPECT_EQ(offered(problem_of(1, 256, 3136), channels_last(256), ampere()),
            "one block*, cooperative 8*, cooperative 16, cooperative 32, cooperative 64, queue 2, large queue 4, "
            "two kernels");
  // Single elements are never read twice.
  EXPECT_EQ(offered(problem_of(1, 1024, 196), {}, hopper_alone),
            "cluster 2, cluster 4, cluster 8, cluster 16, two kernels");
  // A block has a warp's worth of values at least.
  EXPECT_EQ(offered(problem_of(1, 8, 8), {}, hopper_alone), "one block, cluster 2, two kernels");
  EXPECT_EQ(offered(problem_of(1, 7, 9), {}, hopper_alone), "one block, two kernels");
  EXPECT_EQ(offered({7, 1000, 1, false, 1, DataType::kFloat32}, {}, hopper()), "one block*");
}

// The fewest blocks with which slices stay and half of the device is busy.
TEST(Plan, ChoosesWhatKeepsSlicesAndHalfOfTheDeviceBusy) {
  const auto chosen = [](const Problem& problem, const Storage& storage, const DeviceLimits& limits) {
    Plan plan;
    EXPECT_EQ(choose_plan(problem, storage, limits, &plan), Status::kOk);
    return name_of(plan);
  };
  EXPECT_EQ(chosen(problem_of(128, 2048, 49), {}, hopper()), "one block");
  EXPECT_EQ(chosen(problem_of(128, 2048, 49), channels_last(2048), hopper()), "cluster 2");
  EXPECT_EQ(chosen(problem_of(32, 256, 3136), {}, hopper()), "cluster 8");
  EXPECT_EQ(chosen(problem_of(1, 256, 3136), {}, hopper()), "cluster 16");  // and no cooperative launch
  EXPECT_EQ(chosen(problem_of(32, 64, 12544), {}, ampere()), "cooperative 16");
  EXPECT_EQ(chosen(problem_of(1, 64, 12544), {}, ampere()), "cooperative 64");
  EXPECT_EQ(chosen(problem_of(20, 8, 64), {}, turing()), "one block");  // on half of 40 multiprocessors
  EXPECT_EQ(chosen(problem_of(19, 8, 64), {}, turing()), "cooperative 8");
  // Nothing stays: not a block that reads its slice twice, nor a queue.
  EXPECT_EQ(chosen(problem_of(32, 256, 3136), channels_last(256), turing()), "two kernels");
  EXPECT_EQ(choose_plan(problem_of(1, 64, 3136), {}, hopper(), nullptr), Status::kNullPointer);
}

TEST(Plan, ChannelsLastPlansAreSound) {
  for (Problem problem : problems()) {
    const std::int64_t padded = (problem.channels + 7) / 8 * 8;
    const Storage storage{Layout::kChannelsLast, problem.type == DataType::kFloat32 ? problem.channels : padded, true};
    Plan plans[16];
    const int count = list_plans(problem, storage, hopper(), plans, 16);
    ASSERT_GE(count, 1);
    for (int i = 0; i < count; ++i) {
      expect_sound(problem, hopper(), plans[i]);
      if (plans[i].split == Split::kChannels && plans[i].blocks_per_sample > 1) {
        EXPECT_EQ(plans[i].channels_per_block % plans[i].vector_elements, 0);
      }
      if (plans[i].resident && plans[i].tactic == Tactic::kOneBlock) {
        EXPECT_GE(plans[i].slice_bytes, storage.stored_channels * problem.spatial * bytes_of(problem.type));
      }
    }
  }
}

TEST(Plan, ResNetSamplesAreResidentInAClusterOfEight) {
  for (const auto& [c, hw] : std::vector<std::pair<std::int64_t, std::int64_t>>{
           {64, 12544}, {256, 3136}, {512, 784}, {1024, 196}, {2048, 49}}) {
    Plan plan;
    ASSERT_EQ(make_plan(problem_of(1, c, hw), {}, hopper(), Tactic::kCluster, 8, &plan), Status::kOk);
    EXPECT_TRUE(plan.resident) << c << "x" << hw;
    EXPECT_EQ(plan.split, Split::kChannels);
  }
}

TEST(Plan, ChannelsLastIsSplitByPositionsWherePiecesWouldBeShort) {
  Plan plan;
  for (const auto& [c, hw, split] :
       std::vector<std::tuple<std::int64_t, std::int64_t, Split>>{{64, 12544, Split::kSpatial},
                                                                  {128, 3136, Split::kChannels},
                                                                  {512, 784, Split::kChannels},
                                                                  {2048, 49, Split::kChannels}}) {
    const Storage storage{Layout::kChannelsLast, c, true};
    ASSERT_EQ(make_plan(problem_of(1, c, hw), storage, hopper(), Tactic::kCluster, 8, &plan), Status::kOk);
    EXPECT_EQ(plan.split, split) << c << "x" << hw;
    EXPECT_TRUE(plan.resident) << c << "x" << hw;
    EXPECT_LE(plan.threads, kMaxThreads);
    EXPECT_EQ(plan.fold_bytes, plan.threads * 2 * 8);
  }
}

// One sample alone gives the first of two kernels work for many multiprocessors, in items that are kept; and the second
// has no more moments to take in than it has values to apply.
TEST(Plan, TwoKernelsCutASampleIntoManyItems) {
  for (const auto& [c, hw] : std::vector<std::pair<std::int64_t, std::int64_t>>{
           {64, 12544}, {64, 3136}, {128, 3136}, {256, 3136}, {512, 784}, {1024, 196}, {2048, 49}}) {
    for (const Layout layout : {Layout::kLinear, Layout::kChannelsLast}) {
      const Storage storage{layout, layout == Layout::kLinear ? 0 : c, true};
      Plan plan;
      ASSERT_EQ(make_plan(problem_of(1, c, hw), storage, hopper(), Tactic::kTwoKernels, 1, &plan), Status::kOk);
      EXPECT_TRUE(plan.resident) << c << "x" << hw;
      EXPECT_LE(plan.shared_bytes, 48 * 1024) << c << "x" << hw;  // without leave, on any device
      EXPECT_LE(plan.blocks_per_sample * c, kMergedMoments) << c << "x" << hw;
      EXPECT_GE(plan.blocks_per_sample * divide_up(c, plan.channels_per_block), 20) << c << "x" << hw;
    }
  }
}

TEST(Plan, AQueueTakesWhatItIsWorthItFor) {
  const auto listed = [](const Problem& problem, const Storage& storage, const DeviceLimits& limits) {
    Plan plans[16];
    const int count = list_plans(problem, storage, limits, plans, 16);
    std::vector<std::int64_t> ahead;
    for (int i = 0; i < count; ++i) {
      if (is_queue(plans[i].tactic)) ahead.push_back(plans[i].ahead);
    }
    return ahead;
  };
  using Ahead = std::vector<std::int64_t>;
  const Storage last{Layout::kChannelsLast, 256, true};
  EXPECT_EQ(listed(problem_of(128, 256, 3136), last, hopper()), (Ahead{2, 4, 4}));
  EXPECT_EQ(listed(problem_of(1, 256, 3136), last, hopper()), (Ahead{2}));  // there is no further
  EXPECT_EQ(listed(problem_of(1, 256, 49), last, hopper()), Ahead{});       // most of the device would be idle
  EXPECT_EQ(listed(problem_of(128, 256, 49), {}, hopper()), Ahead{});       // single elements
  EXPECT_EQ(listed(problem_of(1, 256, 1 << 24), last, turing()), Ahead{});  // items that aren't kept
  Plan plan;
  for (const auto& [c, hw] : std::vector<std::pair<std::int64_t, std::int64_t>>{
           {64, 12544}, {64, 3136}, {256, 3136}, {512, 784}, {1024, 196}, {2048, 49}}) {
    const Problem problem = problem_of(32, c, hw);
    const Storage storage{Layout::kChannelsLast, c, true};
    ASSERT_EQ(make_plan(problem, storage, turing(), Tactic::kQueue, 4, &plan), Status::kOk);
    EXPECT_LE(plan.shared_bytes, 48 * 1024);
    EXPECT_GE(plan.slice_bytes, 8 * 1024) << c << "x" << hw;  // worth a place
    EXPECT_GE(queue_lead(problem, storage, 132, 4), 1);
    EXPECT_LE((queue_lead(problem, storage, 132, 4) - 1) * c * hw * 2, 4 * 132 * 32 * 1024);
  }
  // 2 and 4 times 32 KiB for each of 132 multiprocessors, in samples of 1.6 MB; and no more than there are.
  EXPECT_EQ(queue_lead(problem_of(128, 256, 3136), last, 132, 2), 6);
  EXPECT_EQ(queue_lead(problem_of(128, 256, 3136), last, 132, 4), 11);
  EXPECT_EQ(queue_lead(problem_of(7, 256, 3136), last, 132, 4), 7);
  EXPECT_EQ(queue_lead(problem_of(7, 256, 31360), last, 132, 2), 1);
  EXPECT_EQ(make_plan(problem_of(1, 64, 3136), {}, hopper(), Tactic::kQueue, 1, &plan), Status::kTactic);
  // At most 512 parts, which may be as large as two items.
  for (const auto& [hw, status] :
       {std::pair{1 << 22, Status::kOk}, {1 << 23, Status::kOk}, {(1 << 23) + 4096, Status::kTactic}}) {
    ASSERT_EQ(make_plan(problem_of(1, 1, hw), {}, hopper(), Tactic::kQueue, 2, &plan), status) << hw;
    EXPECT_EQ(plan.blocks_per_sample, 512);
  }
  // Each part has a place, too.
  EXPECT_EQ(make_plan(problem_of(1 << 21, 1, 1 << 22), {}, hopper(), Tactic::kQueue, 2, &plan), Status::kTactic);
  // More places than 32 bits count, and more bytes than 64.
  EXPECT_EQ(make_plan(problem_of(1 << 25, 64, 64), {}, hopper(), Tactic::kQueue, 2, &plan), Status::kTactic);
  EXPECT_EQ(make_plan(problem_of(std::int64_t{1} << 58, 1, 8), {}, hopper(), Tactic::kQueue, 2, &plan),
            Status::kTooLarge);
}

TEST(Plan, FewChannelsAreSplitByPositions) {
  Plan plan;
  ASSERT_EQ(make_plan(problem_of(1, 3, 1 << 16), {}, hopper(), Tactic::kCluster, 8, &plan), Status::kOk);
  EXPECT_EQ(plan.split, Split::kSpatial);
  EXPECT_EQ(plan.channels_per_block, 3);
  EXPECT_EQ(plan.spatial_per_block, (1 << 16) / 8);
}

TEST(Plan, VectorsNeedRowsAndAddressesThatAllowThem) {
  EXPECT_EQ(vector_elements(problem_of(1, 3, 3136), {}), 8);
  EXPECT_EQ(vector_elements(problem_of(1, 3, 3136, DataType::kFloat32), {}), 4);
  EXPECT_EQ(vector_elements(problem_of(1, 3, 49), {}), 1);
  EXPECT_EQ(vector_elements(problem_of(1, 3, 196), {}), 1);
  EXPECT_EQ(vector_elements(problem_of(1, 3, 196, DataType::kFloat32), {}), 4);
  EXPECT_EQ(vector_elements(problem_of(1, 3, 3136), {Layout::kLinear, 0, false}), 1);
  EXPECT_EQ(vector_elements(problem_of(1, 3, 49), {Layout::kChannelsLast, 8, true}), 8);
  EXPECT_EQ(vector_elements(problem_of(1, 6, 49, DataType::kFloat32), {Layout::kChannelsLast, 6, true}), 1);
}

TEST(Plan, ASampleThatDoesNotFitIsReadTwice) {
  Plan plan;
  ASSERT_EQ(make_plan(problem_of(1, 64, 12544), {}, hopper(), Tactic::kOneBlock, 1, &plan), Status::kOk);
  EXPECT_FALSE(plan.resident);
  EXPECT_EQ(plan.slice_bytes, 0);
}

TEST(Plan, ASliceWhosePositionsLieTooFarApartIsReadTwice) {
  Plan plan;
  Storage storage = {Layout::kChannelsLast, 32, true};
  ASSERT_EQ(make_plan(problem_of(1, 32, 4096), storage, hopper(), Tactic::kCluster, 2, &plan), Status::kOk);
  EXPECT_EQ(plan.split, Split::kChannels);  // of which none takes the padding with it
  EXPECT_TRUE(plan.resident);
  for (const auto& [stored, near] : {std::pair{1 << 19, false}, {(1 << 19) - 8, true}}) {
    storage.stored_channels = stored;
    ASSERT_EQ(make_plan(problem_of(1, 32, 4096), storage, hopper(), Tactic::kCluster, 2, &plan), Status::kOk);
    EXPECT_EQ(plan.resident, near) << stored;
  }
}

TEST(Plan, TacticsThatTheDeviceLacksAreRefused) {
  Plan plan;
  const Problem problem = problem_of(1, 64, 3136);
  DeviceLimits limits = turing();
  EXPECT_EQ(make_plan(problem, {}, limits, Tactic::kCluster, 8, &plan), Status::kTactic);
  EXPECT_EQ(make_plan(problem, {}, limits, Tactic::kCooperative, 64, &plan), Status::kTactic);  // 40 processors
  EXPECT_EQ(make_plan(problem, {}, limits, Tactic::kCooperative, 32, &plan), Status::kOk);
  limits.cooperative = false;
  EXPECT_EQ(make_plan(problem, {}, limits, Tactic::kCooperative, 32, &plan), Status::kTactic);
  EXPECT_EQ(make_plan(problem, {}, hopper(), Tactic::kCluster, 32, &plan), Status::kTactic);
  EXPECT_EQ(make_plan(problem, {}, hopper(), Tactic::kCluster, 1, &plan), Status::kTactic);
  // Constants of so many channels don't fit in one block, whatever the slice does.
  EXPECT_EQ(make_plan(problem_of(1, 100000, 4), {}, limits, Tactic::kOneBlock, 1, &plan), Status::kTactic);
}

TEST(Plan, Rank2IsOneBlock) {
  Problem problem{7, 1000, 1, false, 1, DataType::kFloat32};
  Plan plan;
  ASSERT_EQ(choose_plan(problem, {}, turing(), &plan), Status::kOk);
  EXPECT_EQ(plan.tactic, Tactic::kOneBlock);
  EXPECT_EQ(plan.slice_bytes, 0);  // its kernel keeps nothing
  EXPECT_EQ(make_plan(problem, {}, turing(), Tactic::kTwoKernels, 1, &plan), Status::kTactic);
  problem.channels = std::int64_t{1} << 30;
  ASSERT_EQ(choose_plan(problem, {}, turing(), &plan), Status::kOk);
  EXPECT_FALSE(plan.resident);
}

TEST(Plan, AnEmptyBatchLaunchesNothing) {
  Plan plan;
  ASSERT_EQ(choose_plan(problem_of(0, 64, 49), {}, hopper(), &plan), Status::kOk);
  EXPECT_EQ(plan.grid_blocks(), 0);
}

TEST(Plan, SizesPast32BitsAreCountedRight) {
  const std::int64_t big = std::int64_t{1} << 33;
  Plan plan;
  ASSERT_EQ(make_plan(problem_of(3, 2, big), {}, hopper(), Tactic::kTwoKernels, 1, &plan), Status::kOk);
  EXPECT_EQ(plan.blocks_per_sample, kMaxBlocksPerSample);
  EXPECT_EQ(plan.spatial_per_block, big / kMaxBlocksPerSample);
  EXPECT_EQ(plan.workspace_bytes, 3 * 2 * kMaxBlocksPerSample * 8);
  ASSERT_EQ(make_plan(problem_of(big, 2, 4), {}, hopper(), Tactic::kTwoKernels, 1, &plan), Status::kOk);
  EXPECT_EQ(plan.groups, kMaxGridBlocks);  // each takes several samples
  Plan cluster;
  ASSERT_EQ(make_plan(problem_of(big, 64, 8), {}, hopper(), Tactic::kCluster, 8, &cluster), Status::kOk);
  EXPECT_LE(cluster.grid_blocks(), kMaxGridBlocks);
  EXPECT_EQ(plan.workspace_bytes, big * 2 * 8);
  ASSERT_EQ(make_plan(problem_of(1, 4, big), {}, hopper(), Tactic::kCluster, 8, &plan), Status::kOk);
  EXPECT_FALSE(plan.resident);
  EXPECT_EQ(make_plan(problem_of(1, big, big), {}, hopper(), Tactic::kTwoKernels, 1, &plan), Status::kTooLarge);
  // X fits in 63 bits, the workspace of two floats a row does not.
  EXPECT_EQ(make_plan(problem_of(std::int64_t{1} << 60, 1, 2), {}, hopper(), Tactic::kTwoKernels, 1, &plan),
            Status::kTooLarge);
}

TEST(Plan, WorkspaceOfASmallerRequestFitsInALargerOnes) {
  for (const Tactic tactic : {Tactic::kTwoKernels, Tactic::kCooperative, Tactic::kQueue, Tactic::kLargeQueue}) {
    std::int64_t last = 0;
    for (const std::int64_t n : {1, 2, 3, 8, 64, 1000}) {
      Plan plan;
      ASSERT_EQ(make_plan(problem_of(n, 64, 3136), {}, hopper(), tactic, 16, &plan), Status::kOk);
      EXPECT_GE(plan.workspace_bytes, last);
      last = plan.workspace_bytes;
    }
    last = 0;
    for (const std::int64_t hw : {2, 49, 3136, 12544, 40000, 1 << 22}) {
      Plan plan;
      if (is_queue(tactic) && hw % 8 != 0) continue;
      ASSERT_EQ(make_plan(problem_of(8, 64, hw), {}, hopper(), tactic, 16, &plan), Status::kOk);
      EXPECT_GE(plan.workspace_bytes, last);
      last = plan.workspace_bytes;
    }
  }
}

TEST(Plan, ASampleIsSlicedTheSameInAnyBatch) {
  for (const Tactic tactic : {Tactic::kOneBlock, Tactic::kCluster, Tactic::kCooperative, Tactic::kTwoKernels,
                              Tactic::kQueue, Tactic::kLargeQueue}) {
    Plan one;
    Plan many;
    ASSERT_EQ(make_plan(problem_of(1, 64, 3136), {}, hopper(), tactic, 8, &one), Status::kOk);
    ASSERT_EQ(make_plan(problem_of(100, 64, 3136), {}, hopper(), tactic, 8, &many), Status::kOk);
    EXPECT_EQ(one.blocks_per_sample, many.blocks_per_sample);
    EXPECT_EQ(one.channels_per_block, many.channels_per_block);
    EXPECT_EQ(one.spatial_per_block, many.spatial_per_block);
    EXPECT_EQ(one.threads, many.threads);
    EXPECT_EQ(one.resident, many.resident);
  }
}

TEST(Plan, BadProblemsAreRefusedHereToo) {
  Plan plan;
  EXPECT_EQ(make_plan(problem_of(1, 3, 1), {}, hopper(), Tactic::kOneBlock, 1, &plan), Status::kTooFewValues);
  EXPECT_EQ(choose_plan(problem_of(1, 3, 0), {}, hopper(), &plan), Status::kEmptySpatial);
  EXPECT_EQ(make_plan(problem_of(1, 9, 4), {Layout::kChannelsLast, 8, true}, hopper(), Tactic::kOneBlock, 1, &plan),
            Status::kTactic);
  EXPECT_EQ(make_plan(problem_of(1, 9, 4), {}, hopper(), Tactic::kOneBlock, 1, nullptr), Status::kNullPointer);
  // X fits in 63 bits, its storage doesn't.
  EXPECT_EQ(make_plan(problem_of(1, 9, std::int64_t{1} << 30), channels_last(std::int64_t{1} << 40), hopper(),
                      Tactic::kTwoKernels, 1, &plan),
            Status::kTooLarge);
  EXPECT_EQ(list_plans(problem_of(1, 3, 1), {}, hopper(), &plan, 1), 0);
  EXPECT_EQ(list_plans(problem_of(1, 64, 3136), {}, hopper(), &plan, 1), 1);
}

}  // namespace
}  // namespace sn_deploy
