// Requests, tactic codes and launch arithmetic.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <vector>

#include "cuda/kernels/queue.h"
#include "cuda/prepare.h"
#include "cuda/tests/requests.h"

namespace sn_deploy::cuda::test {
namespace {

TEST(Tactics, AreNumbersAndBack) {
  const Tactic all[] = {Tactic::kOneBlock,   Tactic::kCluster, Tactic::kCooperative,
                        Tactic::kTwoKernels, Tactic::kQueue,   Tactic::kLargeQueue};
  for (const Tactic tactic : all) {
    for (const std::int64_t blocks : {2, 4, 8, 16, 32, 64}) {
      Plan plan;
      plan.tactic = tactic;
      plan.blocks_per_sample = blocks;
      plan.ahead = is_queue(tactic) ? blocks : 0;
      const std::int32_t code = encode(plan);
      EXPECT_GT(code, 0);
      TacticCode decoded;
      ASSERT_TRUE(decode(code, &decoded));
      EXPECT_EQ(decoded.tactic, tactic);
      const bool several = tactic != Tactic::kOneBlock && tactic != Tactic::kTwoKernels;
      EXPECT_EQ(decoded.blocks, several ? blocks : 1);
    }
  }
  TacticCode decoded;
  for (const std::int32_t code :
       {0, -1, 5, 6, 7, 255, 2, 3, 256 + 2, 256 + 5, 3 * 256 + 5, 3 * 256 + 2, 128 * 256 + 3, 256 + 1, 2 * 256 + 4}) {
    EXPECT_FALSE(decode(code, &decoded)) << code;
  }
}

TEST(Requests, AreCheckedAtTheCInterface) {
  Request request;
  EXPECT_EQ(request_from_c(nullptr, true, &request), Status::kNullPointer);
  SnCudaProblem problem = half_problem_of(1, 8, 4);
  EXPECT_EQ(request_from_c(&problem, true, &request), Status::kOk);
  const auto with = [&](auto spoil) {
    SnCudaProblem spoiled = problem;
    spoil(spoiled);
    return request_from_c(&spoiled, true, &request);
  };
  EXPECT_EQ(with([](SnCudaProblem& p) { p.data_type = 3; }), Status::kDataType);
  EXPECT_EQ(with([](SnCudaProblem& p) { p.data_type = -1; }), Status::kDataType);
  EXPECT_EQ(with([](SnCudaProblem& p) { p.layout = 2; }), Status::kArgument);
  EXPECT_EQ(with([](SnCudaProblem& p) { p.epilogue = 3; }), Status::kArgument);
  EXPECT_EQ(with([](SnCudaProblem& p) { p.has_in = 2; }), Status::kArgument);
  EXPECT_EQ(with([](SnCudaProblem& p) { p.ddof = 2; }), Status::kDdof);
  EXPECT_EQ(with([](SnCudaProblem& p) { p.spatial = 1; }), Status::kTooFewValues);
  EXPECT_EQ(with([](SnCudaProblem& p) { p.spatial = 0; }), Status::kEmptySpatial);
  EXPECT_EQ(with([](SnCudaProblem& p) { p.channels = 0; }), Status::kNoChannels);
  EXPECT_EQ(with([](SnCudaProblem& p) { p.batch = -1; }), Status::kNegativeExtent);
  EXPECT_EQ(with([](SnCudaProblem& p) { p.var_in = std::nanf(""); }), Status::kWeightNotFinite);
}

TEST(Launches, OfAnEmptyBatchAreNone) {
  Request request;
  const SnCudaProblem problem = half_problem_of(0, 8, 4);
  ASSERT_EQ(request_from_c(&problem, true, &request), Status::kOk);
  Plan plan;
  ASSERT_EQ(choose_plan(request.problem, request.storage, widest_limits(), &plan), Status::kOk);
  EXPECT_EQ(prepare(request, problem, {}, plan, 8, nullptr).count, 0);
}

// The shared memory that a launch asks for is what its offsets reach.
TEST(Launches, LayOutSharedMemoryWithinWhatTheyAskFor) {
  const DeviceLimits hopper = {132, 227 * 1024, 16, true};
  for (const std::int32_t layout : {0, 1}) {
    for (const auto& [c, hw] : {std::pair<std::int64_t, std::int64_t>{64, 12544},
                                {256, 3136},
                                {2048, 49},
                                {3, 7},
                                {5000, 100},
                                {20, 12544},
                                {1000000, 4}}) {
      for (const std::int64_t n : {1, 8, 128}) {
        SnCudaProblem problem = half_problem_of(n, c, hw);
        problem.layout = layout;
        problem.stored_channels = layout == 1 ? (c + 7) / 8 * 8 : 0;
        Request request;
        ASSERT_EQ(request_from_c(&problem, true, &request), Status::kOk);
        Plan plans[16];
        const int count = list_plans(request.problem, request.storage, hopper, plans, 16);
        for (int i = 0; i < count; ++i) {
          const Launches launches = prepare(request, problem, {}, plans[i], hopper.multiprocessors, nullptr);
          const bool two = plans[i].tactic == Tactic::kTwoKernels || is_queue(plans[i].tactic);
          ASSERT_EQ(launches.count, two ? 2 : 1);
          for (int k = 0; k < launches.count; ++k) {
            const Launch& launch = launches.list[k];
            EXPECT_GE(launch.grid, 1);
            EXPECT_LE(launch.grid, kMaxGridBlocks);
            EXPECT_EQ(launch.grid % launch.cluster, 0);
            if (launch.kind == KernelKind::kNormalize) {
              const std::int64_t moments = plans[i].blocks_per_sample * c * kMomentsBytes;
              EXPECT_EQ(
                  launch.arguments.slice_offset + (launch.arguments.keeps_moments != 0 ? (moments + 15) / 16 * 16 : 0),
                  launch.shared_bytes);
              EXPECT_LE(launch.shared_bytes, 48 * 1024);  // on any device
            } else if (launch.kind == KernelKind::kZero) {
              EXPECT_EQ(launch.shared_bytes, 0);
            } else {
              EXPECT_EQ(launch.arguments.slice_offset + plans[i].slice_bytes, launch.shared_bytes);
            }
            if (launch.kind == KernelKind::kQueue) {
              const Arguments& a = launch.arguments;
              EXPECT_LE(launch.shared_bytes, (plans[i].tactic == Tactic::kQueue ? 48 : 80) * 1024);
              EXPECT_EQ(launch.grid, std::min<std::int64_t>(places_of(a), kQueueBlocks * hopper.multiprocessors));
              EXPECT_EQ(a.lead, queue_lead(request.problem, request.storage, 132, plans[i].ahead));
              EXPECT_TRUE(a.merges_near == 0 || a.line_stride * 12 <= plans[i].slice_bytes);
              EXPECT_EQ(launches.list[0].kind, KernelKind::kZero);
              EXPECT_GE(launches.list[0].arguments.zeroed_words * 4, kBarrierBytes + n * 4);
              EXPECT_EQ(a.moments_offset, a.zeroed_words * 4);
              EXPECT_GE(a.lines_offset, a.moments_offset + n * plans[i].blocks_per_sample * c * kMomentsBytes);
              EXPECT_EQ(a.lines_offset + n * kQueueLineFloats * a.line_stride * 4, plans[i].workspace_bytes);
              EXPECT_EQ(a.lines_offset % 16, 0);
              EXPECT_EQ(a.line_stride % 8, 0);  // whole vectors of half types
            }
            EXPECT_EQ(launch.arguments.slice_offset % 16, 0);
            EXPECT_EQ(launch.arguments.fold_offset % 16, 0);
            if (launch.cooperative) {
              EXPECT_LE(launch.grid, hopper.multiprocessors);
              EXPECT_LT(launch.zeroed_bytes, plans[i].workspace_bytes);
            }
          }
        }
      }
    }
  }
}

// Every place is one item, each item has one place, and none stands before an item that it waits for.
TEST(Launches, QueuesHaveAPlaceForEveryItem) {
  for (const unsigned batch : {1U, 2U, 7U}) {
    for (const unsigned lead : {1U, 2U, 7U}) {
      Arguments a = {};
      a.batch = batch;
      a.lead = std::min(lead, batch);
      a.collect_items = 3;
      a.apply_items = 2;
      std::vector<int> collected(batch);
      std::vector<int> applied(batch);
      const auto places = static_cast<unsigned>(places_of(a));
      EXPECT_EQ(places, batch * 6 + 1);
      std::vector<int> merged(batch);
      for (unsigned place = 0; place < places; ++place) {
        const Turn turn = turn_at(a, place);
        ASSERT_NE(turn.work, Work::kEnd);
        EXPECT_EQ(turn.work == Work::kNothing, place == 3);  // there is no sample before the first
        if (turn.work == Work::kNothing) continue;
        ASSERT_GE(turn.sample, 0);
        ASSERT_LT(turn.sample, batch);
        const auto sample = static_cast<std::size_t>(turn.sample);
        std::vector<int>& items = turn.work == Work::kApply ? applied : turn.work == Work::kMerge ? merged : collected;
        EXPECT_EQ(turn.item, items[sample]);
        // From the last sample to the first.
        EXPECT_TRUE(std::all_of(items.begin(), items.begin() + turn.sample, [](int count) { return count == 0; }));
        EXPECT_TRUE(turn.work == Work::kCollect || collected[sample] == 3);
        EXPECT_TRUE(turn.work != Work::kApply || merged[sample] == 1);
        // A merge doesn't stand right behind what it waits for, but at the end.
        EXPECT_TRUE(turn.work != Work::kMerge || sample == 0 || collected[sample - 1] == 3);
        ++items[sample];
      }
      for (unsigned sample = 0; sample < batch; ++sample) EXPECT_EQ(applied[sample], 2);
      for (const unsigned behind : {0U, 1U, 1000U}) EXPECT_EQ(turn_at(a, places + behind).work, Work::kEnd);
    }
  }
}

TEST(Launches, DivideInAsManyBitsAsItTakes) {
  const std::int64_t big = (std::int64_t{1} << 40) + 5;
  EXPECT_EQ(quotient(big, 3), 366503875927);
  EXPECT_EQ(quotient(big, big - 1), 1);
  EXPECT_EQ(quotient(7, big), 0);
  EXPECT_EQ(quotient(4294967295, 2), 2147483647);
}

TEST(Launches, OfTheSecondKernelFillTheDevice) {
  const SnCudaProblem problem = half_problem_of(1, 64, 12544);
  Request request;
  ASSERT_EQ(request_from_c(&problem, true, &request), Status::kOk);
  Plan plan;
  ASSERT_EQ(make_plan(request.problem, request.storage, widest_limits(), Tactic::kTwoKernels, 1, &plan), Status::kOk);
  const Launches launches = prepare(request, problem, {}, plan, 132, nullptr);
  EXPECT_GE(launches.list[0].grid, 64);
  EXPECT_GE(launches.list[1].grid, 132);
}

}  // namespace
}  // namespace sn_deploy::cuda::test
