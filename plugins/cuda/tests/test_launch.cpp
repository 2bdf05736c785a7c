// The C interface, as far as it goes without a GPU.
#include <gtest/gtest.h>

#include <cstring>

#include "core/problem.h"
#include "cuda/prepare.h"
#include "cuda/tests/requests.h"
#include "sn_deploy/cuda.h"

namespace sn_deploy::cuda::test {
namespace {

TEST(Workspace, NeedsNoDeviceAndGrowsWithTheProblem) {
  for (const std::int32_t layout : {0, 1}) {
    for (const std::int64_t c : {1, 3, 64, 512, 2048}) {
      const std::int64_t batches[] = {0, 1, 2, 7, 8, 33, 128, 1000};
      const std::int64_t extents[] = {2, 9, 49, 196, 784, 1025, 3136, 12544, 50176, 1 << 20};
      for (const std::int64_t n : batches) {
        for (const std::int64_t hw : extents) {
          SnCudaProblem largest = problem_of(n, c, hw);
          largest.layout = layout;
          largest.stored_channels = layout == 1 ? c : 0;
          std::int64_t bytes = -1;
          ASSERT_EQ(sn_cuda_workspace_bytes(&largest, &bytes), 0);
          for (const std::int64_t fewer : batches) {
            for (const std::int64_t smaller : extents) {
              if (fewer > n || smaller > hw) continue;
              SnCudaProblem problem = largest;
              problem.batch = fewer;
              problem.spatial = smaller;
              std::int64_t less = -1;
              ASSERT_EQ(sn_cuda_workspace_bytes(&problem, &less), 0);
              ASSERT_LE(less, bytes) << fewer << "x" << c << "x" << smaller << " in " << n << "x" << c << "x" << hw;
            }
          }
        }
      }
    }
  }
}

// Each tactic's own room is within that, at smaller sizes too, though what the largest allows may be another tactic.
TEST(Workspace, HasRoomForEveryTacticOfEverySmallerProblem) {
  const std::int64_t batches[] = {1, 3, 8, 300};
  const std::int64_t extents[] = {2, 49, 1000, 1001, 3136, 50176};
  int plans = 0;
  const auto expect_room = [&plans](const Problem& problem, const Storage& storage, std::int64_t room) {
    for (int tactic = 1; tactic <= 6; ++tactic) {
      for (std::int64_t blocks = 2; blocks <= kMaxBlocksPerSample; blocks *= 2) {
        Plan plan;
        const auto asked = static_cast<Tactic>(tactic);
        if (make_plan(problem, storage, widest_limits(), asked, blocks, &plan) != Status::kOk) continue;
        ASSERT_LE(plan.workspace_bytes, room) << "tactic " << tactic << " of " << blocks << ": " << problem.batch << "x"
                                              << problem.channels << "x" << problem.spatial;
        ++plans;
      }
    }
  };
  for (const std::int32_t layout : {0, 1}) {
    for (const std::int32_t type : {0, 1}) {
      for (const std::int64_t c : {1, 3, 40, 64, 2048}) {
        for (const std::int64_t n : batches) {
          for (const std::int64_t hw : extents) {
            SnCudaProblem largest = problem_of(n, c, hw);
            largest.data_type = type;
            largest.layout = layout;
            largest.stored_channels = layout == 1 ? c : 0;
            std::int64_t room = -1;
            ASSERT_EQ(sn_cuda_workspace_bytes(&largest, &room), 0);
            for (const std::int64_t fewer : batches) {
              for (const std::int64_t smaller : extents) {
                if (fewer > n || smaller > hw) continue;
                const Problem problem = {fewer, c, smaller, true, 1, static_cast<DataType>(type)};
                expect_room(problem, {static_cast<Layout>(layout), largest.stored_channels, true}, room);
              }
            }
          }
        }
      }
    }
  }
  EXPECT_GT(plans, 10000);
}

TEST(Workspace, OfRank2IsNone) {
  SnCudaProblem problem = problem_of(300, 4096, 1);
  problem.has_in = 0;
  std::int64_t bytes = -1;
  EXPECT_EQ(sn_cuda_workspace_bytes(&problem, &bytes), 0);
  EXPECT_EQ(bytes, 0);
}

TEST(Interface, RefusesBadRequestsBeforeItAsksForADevice) {
  SnCudaProblem problem = problem_of(1, 8, 1);
  SnCudaTensors tensors = {};
  std::int64_t bytes;
  std::int32_t tactic;
  EXPECT_EQ(sn_cuda_launch(&problem, &tensors, 1, nullptr, 0, nullptr), as_int(Status::kTooFewValues));
  EXPECT_EQ(sn_cuda_workspace_bytes(&problem, &bytes), as_int(Status::kTooFewValues));
  EXPECT_EQ(sn_cuda_choose_tactic(&problem, &tactic), as_int(Status::kTooFewValues));
  problem.spatial = 4;
  EXPECT_EQ(sn_cuda_launch(nullptr, &tensors, 1, nullptr, 0, nullptr), as_int(Status::kNullPointer));
  EXPECT_EQ(sn_cuda_launch(&problem, nullptr, 1, nullptr, 0, nullptr), as_int(Status::kNullPointer));
  EXPECT_EQ(sn_cuda_launch(&problem, &tensors, 1, nullptr, 0, nullptr), as_int(Status::kNullPointer));
  EXPECT_EQ(sn_cuda_workspace_bytes(&problem, nullptr), as_int(Status::kNullPointer));
  EXPECT_EQ(sn_cuda_tactic_workspace_bytes(&problem, 4, nullptr), as_int(Status::kNullPointer));
  EXPECT_EQ(sn_cuda_tactic_workspace_bytes(nullptr, 4, &bytes), as_int(Status::kNullPointer));
  EXPECT_EQ(sn_cuda_tactic_workspace_bytes(&problem, 77, &bytes), as_int(Status::kTactic));
  EXPECT_EQ(sn_cuda_choose_tactic(&problem, nullptr), as_int(Status::kNullPointer));
  EXPECT_EQ(sn_cuda_list_tactics(&problem, nullptr, 3, nullptr), as_int(Status::kNullPointer));
  EXPECT_EQ(sn_cuda_fallback_tactic(nullptr, &tactic), as_int(Status::kNullPointer));

  alignas(16) float memory[64] = {};
  tensors = {memory, memory, memory, memory, memory, nullptr, memory + 32};
  EXPECT_EQ(sn_cuda_launch(&problem, &tensors, 77, nullptr, 0, nullptr), as_int(Status::kTactic));
  problem.epilogue = 2;
  EXPECT_EQ(sn_cuda_launch(&problem, &tensors, 1, nullptr, 0, nullptr), as_int(Status::kNullPointer));  // no residual
  problem.epilogue = 0;
  tensors.y = reinterpret_cast<unsigned char*>(memory) + 129;
  EXPECT_EQ(sn_cuda_launch(&problem, &tensors, 1, nullptr, 0, nullptr), as_int(Status::kMisaligned));
}

TEST(Interface, AnEmptyBatchIsDoneAtOnce) {
  const SnCudaProblem problem = problem_of(0, 8, 4);
  EXPECT_EQ(sn_cuda_launch(&problem, nullptr, 0, nullptr, 0, nullptr), 0);
}

TEST(Interface, NamesTheTacticThatAlwaysRuns) {
  SnCudaProblem problem = problem_of(1, 8, 4);
  std::int32_t tactic = 0;
  ASSERT_EQ(sn_cuda_fallback_tactic(&problem, &tactic), 0);
  EXPECT_EQ(tactic, 4);
  problem.has_in = 0;
  problem.spatial = 1;
  ASSERT_EQ(sn_cuda_fallback_tactic(&problem, &tactic), 0);
  EXPECT_EQ(tactic, 1);
}

TEST(Interface, GivesAReasonForEveryStatus) {
  for (std::int32_t status = 0; status <= as_int(Status::kBlockedType); ++status) {
    EXPECT_STREQ(sn_cuda_reason(status), reason(static_cast<Status>(status)));
  }
  EXPECT_STREQ(sn_cuda_reason(1000), "unknown status");
}

}  // namespace
}  // namespace sn_deploy::cuda::test
