// The check that all borders share: each bad request has its own status, each status a reason.
#include <gtest/gtest.h>

#include <cmath>
#include <cstdint>
#include <limits>
#include <set>
#include <string>
#include <vector>

#include "core/problem.h"

namespace sn_deploy {
namespace {

using Shape = std::vector<std::int64_t>;

Status status_of(const Shape& shape, std::int64_t parameters, int ddof = 1, DataType type = DataType::kFloat32,
                 Problem* problem = nullptr) {
  Problem own;
  return problem_from_shape(shape.data(), static_cast<std::int64_t>(shape.size()), parameters, type, ddof,
                            problem == nullptr ? &own : problem);
}

TEST(Problem, FlattensTheSpatialExtents) {
  Problem problem;
  ASSERT_EQ(status_of({2, 3, 4, 5, 6}, 3, 0, DataType::kFloat16, &problem), Status::kOk);
  EXPECT_EQ(problem.batch, 2);
  EXPECT_EQ(problem.channels, 3);
  EXPECT_EQ(problem.spatial, 120);
  EXPECT_TRUE(problem.has_in);
  EXPECT_EQ(problem.count(), 120);
  EXPECT_EQ(problem.ddof, 0);
}

TEST(Problem, Rank2HasNoInstancePart) {
  Problem problem;
  ASSERT_EQ(status_of({2, 3}, 3, 1, DataType::kFloat32, &problem), Status::kOk);
  EXPECT_FALSE(problem.has_in);
  EXPECT_EQ(problem.spatial, 1);
  EXPECT_EQ(problem.count(), 3);
}

TEST(Problem, AnEmptyBatchIsNoError) {
  EXPECT_EQ(status_of({0, 3, 7, 7}, 3), Status::kOk);
  EXPECT_EQ(status_of({0, 3}, 3), Status::kOk);
}

TEST(Problem, BadRequestsAreRefused) {
  const std::int64_t huge = std::int64_t{1} << 32;
  EXPECT_EQ(status_of({}, 3), Status::kRank);
  EXPECT_EQ(status_of({3}, 3), Status::kRank);
  EXPECT_EQ(status_of({1, -1, 4}, 3), Status::kNegativeExtent);
  EXPECT_EQ(status_of({1, 3, -1}, 3), Status::kNegativeExtent);
  EXPECT_EQ(status_of({1, 0, 4}, 0), Status::kNoChannels);
  EXPECT_EQ(status_of({1, 4, 4}, 3), Status::kChannelMismatch);
  EXPECT_EQ(status_of({1, 3, 0, 4}, 3), Status::kEmptySpatial);
  EXPECT_EQ(status_of({0, 3, 0, 4}, 3), Status::kEmptySpatial);
  EXPECT_EQ(status_of({1, 3, 1, 1}, 3), Status::kTooFewValues);
  EXPECT_EQ(status_of({1, 3, 1, 1}, 3, 0), Status::kOk);
  EXPECT_EQ(status_of({5, 1}, 1), Status::kTooFewValues);
  EXPECT_EQ(status_of({5, 1}, 1, 0), Status::kOk);
  EXPECT_EQ(status_of({1, 3, 4}, 3, 2), Status::kDdof);
  EXPECT_EQ(status_of({1, 3, 4}, 3, -1), Status::kDdof);
  EXPECT_EQ(status_of({1, 3, 4}, 3, 1, static_cast<DataType>(9)), Status::kDataType);
  EXPECT_EQ(status_of({huge, 3, huge}, 3), Status::kTooLarge);
  EXPECT_EQ(status_of({1, 3, huge, huge}, 3), Status::kTooLarge);
  EXPECT_EQ(status_of({1, 3, huge, huge, 0}, 3), Status::kEmptySpatial);
}

TEST(Problem, IsLeftAloneByAnError) {
  Problem problem;
  problem.channels = 77;
  EXPECT_EQ(status_of({1, 4, 4}, 3, 1, DataType::kFloat32, &problem), Status::kChannelMismatch);
  EXPECT_EQ(problem.channels, 77);
  EXPECT_EQ(problem_from_shape(nullptr, 3, 3, DataType::kFloat32, 1, &problem), Status::kNullPointer);
  const Shape shape{1, 3, 4};
  EXPECT_EQ(problem_from_shape(shape.data(), 3, 3, DataType::kFloat32, 1, nullptr), Status::kNullPointer);
}

TEST(Problem, WeightsMustBeFinite) {
  EXPECT_EQ(check_weights(0.1F, 0.2F, 0.3F, 0.4F), Status::kOk);
  for (const float value : {NAN, std::numeric_limits<float>::infinity(), -std::numeric_limits<float>::infinity()}) {
    EXPECT_EQ(check_weights(value, 0.2F, 0.3F, 0.4F), Status::kWeightNotFinite);
    EXPECT_EQ(check_weights(0.1F, value, 0.3F, 0.4F), Status::kWeightNotFinite);
    EXPECT_EQ(check_weights(0.1F, 0.2F, value, 0.4F), Status::kWeightNotFinite);
    EXPECT_EQ(check_weights(0.1F, 0.2F, 0.3F, value), Status::kWeightNotFinite);
  }
}

TEST(Status, EachHasAReasonOfItsOwn) {
  const int last = static_cast<int>(Status::kBlockedType);
  std::set<std::string> reasons;
  for (int value = 0; value <= last; ++value) reasons.insert(reason(static_cast<Status>(value)));
  EXPECT_EQ(reasons.size(), static_cast<std::size_t>(last) + 1);
  EXPECT_EQ(reasons.count("unknown status"), 0U);
  for (const int value : {-1, last + 1, 1000}) EXPECT_STREQ(reason(static_cast<Status>(value)), "unknown status");
}

TEST(Arithmetic, NoticesOverflow) {
  const std::int64_t most = std::numeric_limits<std::int64_t>::max();
  std::int64_t result = 0;
  EXPECT_TRUE(multiply(most, 1, &result));
  EXPECT_EQ(result, most);
  EXPECT_TRUE(multiply(0, most, &result));
  EXPECT_EQ(result, 0);
  EXPECT_FALSE(multiply(std::int64_t{1} << 32, std::int64_t{1} << 31, &result));
  EXPECT_FALSE(add(most, 1, &result));
  EXPECT_EQ(divide_up(most, 2), most / 2 + 1);
}

}  // namespace
}  // namespace sn_deploy
