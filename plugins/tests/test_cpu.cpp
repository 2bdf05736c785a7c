// The CPU kernels: every instruction set that this machine has, every type and epilogue, against long double.
#include <gtest/gtest.h>

#include <algorithm>
#include <atomic>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <set>
#include <string>
#include <vector>

#include "cpu/half.h"
#include "cpu/kernels.h"
#include "cpu/switch_norm.h"
#include "tests/cpu_case.h"
#include "tests/reference.h"

#if defined(__SSE2__)
#include <xmmintrin.h>
#endif

namespace sn_deploy::cpu {
namespace {

Bytes run(const Kernels& kernels, const Case& of, Epilogue epilogue, const Parallel& parallel = no_threads(),
          Place place = Place::kSeparate) {
  const DataType type = of.problem.type;
  Bytes x = stored_as(type, of.x);
  Bytes residual = stored_as(type, of.residual);
  Bytes y(x.size(), 0xCD);
  Bytes* target = place == Place::kInX ? &x : (place == Place::kInResidual ? &residual : &y);
  // Filled with NaN: whatever is read before it is written shows.
  std::vector<double> workspace(static_cast<std::size_t>(workspace_bytes(of.problem)) / 8, std::nan(""));
  const Tensors tensors{x.data(),
                        of.layer.scale.data(),
                        of.layer.bias.data(),
                        of.layer.mean_offset.data(),
                        of.layer.var_offset.data(),
                        epilogue == Epilogue::kAddRelu ? residual.data() : nullptr,
                        target->data()};
  EXPECT_EQ(switch_norm_with(kernels, of.problem, of.weights(), epilogue, tensors, workspace.data(),
                             static_cast<std::int64_t>(workspace.size() * 8), parallel),
            Status::kOk);
  return *target;
}

constexpr DataType kEveryType[] = {DataType::kFloat32, DataType::kFloat16, DataType::kBfloat16};

struct Sizes {
  std::int64_t batch, channels, spatial;
  bool has_in = true;
  int ddof = 1;
};

const Sizes kSizes[] = {
    {2, 3, 2},         {1, 1, 49},       {2, 67, 49},        {1, 9, 196},          {3, 5, 1, true, 0},
    {2, 4, 255},       {2, 3, 256},      {1, 3, 257},        {1, 2, 4096},         {1, 3, 4099},
    {2, 2, 16384},     {1, 2, 16385},    {1, 1, 50001},      {2, 130, 17},         {300, 2, 3},
    {4, 40, 1, false}, {1, 2, 1, false}, {3, 129, 1, false}, {2, 17000, 1, false}, {5, 3, 1, false, 0},
    {2, 8, 784},       {1, 7, 63},       {1, 6, 65},
};

class OnCpu : public ::testing::TestWithParam<const Kernels*> {};

TEST_P(OnCpu, EveryTypeAndEpilogueAgreesWithTheReference) {
  for (const Sizes& sizes : kSizes) {
    for (const DataType type : kEveryType) {
      const Case made = make_case({sizes.batch, sizes.channels, sizes.spatial, sizes.has_in, sizes.ddof, type}, 0.5);
      for (const Epilogue epilogue : kEveryEpilogue) {
        EXPECT_LE(error(made, epilogue, run(*GetParam(), made, epilogue)), 1.0)
            << sizes.batch << "x" << sizes.channels << "x" << sizes.spatial << " type " << static_cast<int>(type)
            << " epilogue " << static_cast<int>(epilogue);
      }
    }
  }
}

// Each end that a row can have behind its last whole vector; the sanitizers see what is touched beyond it.
TEST_P(OnCpu, EveryLengthOfARowAgreesWithTheReference) {
  for (std::int64_t length = 1; length <= 40; ++length) {
    for (const DataType type : kEveryType) {
      for (const Problem& problem : {Problem{1, 5, length, true, 0, type}, Problem{2, length, 1, false, 0, type}}) {
        const Case made = make_case(problem, 0.5);
        EXPECT_LE(error(made, Epilogue::kAddRelu, run(*GetParam(), made, Epilogue::kAddRelu)), 1.0)
            << length << " type " << static_cast<int>(type) << (problem.has_in ? "" : " of rank 2");
      }
    }
  }
}

TEST_P(OnCpu, ALargeMeanKeepsItsDigits) {
  for (const double mean : {1000.0, -1000.0}) {
    for (const std::int64_t spatial : {49, 196, 3136, 20000}) {
      const Case made = make_case({1, 12, spatial, true, 1, DataType::kFloat32}, mean);
      EXPECT_LE(error(made, Epilogue::kNone, run(*GetParam(), made, Epilogue::kNone)), 1.0) << spatial;
    }
  }
}

// Of a mean that is no float, what its rounding takes goes to the shift: x - centre is exact, and Y as good as beside a
// mean of 0.
TEST_P(OnCpu, ALargeMeansOwnRoundingIsNotLost) {
  for (const std::int64_t spatial : {49, 784, 20000}) {
    const Case made = make_case({1, 12, spatial, true, 1, DataType::kFloat32}, 1000.0);
    const std::vector<float> y = read_as(DataType::kFloat32, run(*GetParam(), made, Epilogue::kNone));
    const std::vector<double> exact = reference(made.problem, made.layer, Epilogue::kNone, made.x, made.residual);
    for (std::size_t i = 0; i < y.size(); ++i) {
      ASSERT_LE(std::abs(static_cast<double>(y[i]) - exact[i]), 8 * 0x1p-24 * (1 + std::abs(exact[i])))
          << spatial << " at " << i;
    }
  }
}

TEST_P(OnCpu, StatisticsOfALargeMeanAreGoodToFiveDigits) {
  for (const std::int64_t length : {2, 31, 49, 256, 3136, 12544}) {
    const Case made = make_case({1, 5, length, true, 1, DataType::kFloat32}, 1000.0);
    std::vector<double> mean(5);
    std::vector<double> m2(5);
    GetParam()->moments[0](made.x.data(), 5, length, mean.data(), m2.data());
    for (std::int64_t row = 0; row < 5; ++row) {
      const auto at = [&](std::int64_t i) {
        return static_cast<long double>(made.x[static_cast<std::size_t>(row * length + i)]);
      };
      const Statistics<long double> exact = sn_deploy::testing::statistics(length, 1, at);
      const auto own = static_cast<std::size_t>(row);
      EXPECT_LE(std::abs(mean[own] / static_cast<double>(exact.mean) - 1), 1e-9);
      EXPECT_LE(std::abs(m2[own] / static_cast<double>(exact.var) - 1), 1e-5);
    }
  }
}

TEST_P(OnCpu, AnyOrderOfTasksGivesTheSameBits) {
  for (const Sizes& sizes : {Sizes{2, 67, 784}, Sizes{3, 300, 49}, Sizes{1, 3, 100000}, Sizes{2, 40000, 1, false}}) {
    for (const DataType type : kEveryType) {
      const Case made = make_case({sizes.batch, sizes.channels, sizes.spatial, sizes.has_in, 1, type});
      const Bytes alone = run(*GetParam(), made, Epilogue::kAddRelu);
      EXPECT_EQ(alone, run(*GetParam(), made, Epilogue::kAddRelu, reversed()));
      EXPECT_EQ(alone, run(*GetParam(), made, Epilogue::kAddRelu, four_threads()));
    }
  }
}

TEST_P(OnCpu, ASampleHasTheSameBitsInAnyBatch) {
  for (const Sizes& sizes : {Sizes{7, 67, 49}, Sizes{5, 3, 7}, Sizes{3, 2, 20000}, Sizes{9, 33, 1, false}}) {
    const Case whole = make_case({sizes.batch, sizes.channels, sizes.spatial, sizes.has_in, 1, DataType::kFloat32});
    const Bytes y = run(*GetParam(), whole, Epilogue::kAddRelu);
    const std::size_t sample = whole.x.size() / static_cast<std::size_t>(sizes.batch);
    for (std::size_t n = 0; n < static_cast<std::size_t>(sizes.batch); ++n) {
      const auto begin = static_cast<std::ptrdiff_t>(n * sample);
      const auto end = static_cast<std::ptrdiff_t>((n + 1) * sample);
      Case one = whole;
      one.problem.batch = 1;
      one.x.assign(whole.x.begin() + begin, whole.x.begin() + end);
      one.residual.assign(whole.residual.begin() + begin, whole.residual.begin() + end);
      EXPECT_EQ(run(*GetParam(), one, Epilogue::kAddRelu), Bytes(y.begin() + begin * 4, y.begin() + end * 4));
    }
  }
}

TEST_P(OnCpu, YMayBeXOrTheResidual) {
  for (const Sizes& sizes : {Sizes{2, 67, 49}, Sizes{1, 3, 784}, Sizes{1, 2, 40000}, Sizes{3, 300, 1, false}}) {
    for (const DataType type : kEveryType) {
      const Case made = make_case({sizes.batch, sizes.channels, sizes.spatial, sizes.has_in, 1, type});
      for (const Epilogue epilogue : kEveryEpilogue) {
        EXPECT_EQ(run(*GetParam(), made, epilogue, four_threads(), Place::kInX), run(*GetParam(), made, epilogue));
      }
      EXPECT_EQ(run(*GetParam(), made, Epilogue::kAddRelu, four_threads(), Place::kInResidual),
                run(*GetParam(), made, Epilogue::kAddRelu));
    }
  }
}

// ONNX Runtime hands over what a caller or a file mapped into memory has, wherever it begins.
TEST_P(OnCpu, TensorsMayBeginAtAnyAddress) {
  for (const Sizes& sizes : {Sizes{2, 67, 49}, Sizes{1, 3, 784}, Sizes{1, 2, 16387}, Sizes{3, 300, 1, false}}) {
    for (const DataType type : kEveryType) {
      const Case made = make_case({sizes.batch, sizes.channels, sizes.spatial, sizes.has_in, 1, type});
      for (const Case& of : {made, without_statistics(made)}) {
        std::vector<double> workspace(static_cast<std::size_t>(workspace_bytes(of.problem)) / 8);
        const auto call = [&](const Tensors& tensors) {
          EXPECT_EQ(switch_norm_with(*GetParam(), of.problem, of.weights(), Epilogue::kAddRelu, tensors,
                                     workspace.data(), static_cast<std::int64_t>(workspace.size() * 8), no_threads()),
                    Status::kOk);
        };
        EXPECT_EQ(at_odd_addresses(of.layer, stored_as(type, of.x), stored_as(type, of.residual), call),
                  run(*GetParam(), of, Epilogue::kAddRelu));
      }
    }
  }
}

// Otherwise one thread would do a third of all work where samples are tiny.
TEST_P(OnCpu, EverySampleIsProjectedByAThreadThatMeasures) {
  static thread_local bool in_task;
  static std::atomic<int> projected;
  static std::atomic<int> outside;
  static const Kernels* used;
  used = GetParam();
  Kernels watched = *used;
  watched.layer = [](const double* mean, double* m2, std::int64_t channels, double divisor) {
    ++(in_task ? projected : outside);
    return used->layer(mean, m2, channels, divisor);
  };
  const auto run_tasks = [](void*, void (*task)(void*, std::size_t), void* context, std::size_t tasks) {
    in_task = true;
    for (std::size_t i = tasks; i-- > 0;) task(context, i);
    in_task = false;
    return true;
  };
  // Many samples to a task, tasks that end within samples, and samples of many tasks.
  for (const Sizes& sizes : {Sizes{30000, 3, 4}, Sizes{40, 67, 49}, Sizes{2, 3, 100000}}) {
    const Case made = make_case({sizes.batch, sizes.channels, sizes.spatial, true, 1, DataType::kFloat32});
    projected = outside = 0;
    EXPECT_EQ(run(watched, made, Epilogue::kAddRelu, {run_tasks, nullptr}), run(*used, made, Epilogue::kAddRelu));
    EXPECT_EQ(projected, sizes.batch);
    EXPECT_EQ(outside, 0);
  }
}

TEST_P(OnCpu, SmallSamplesFillSeveralWaves) {
  const Case made = make_case({40000, 2, 3, true, 1, DataType::kFloat32});
  EXPECT_LE(error(made, Epilogue::kNone, run(*GetParam(), made, Epilogue::kNone)), 1.0);
  const Case large = make_case({3, 30, 40000, true, 1, DataType::kFloat16});
  EXPECT_LE(error(large, Epilogue::kNone, run(*GetParam(), large, Epilogue::kNone)), 1.0);
}

// A layer that does nothing: x is its own centre, y = relu(x + residual), so that loads and stores are all that counts.
TEST_P(OnCpu, ConversionsAreThoseOfOneNumberAtATime) {
  for (const DataType type : {DataType::kFloat16, DataType::kBfloat16}) {
    std::vector<float> all;
    for (std::uint32_t bits = 0; bits < 0x10000U; ++bits) {
      const auto pattern = static_cast<std::uint16_t>(bits);
      all.push_back(type == DataType::kFloat16 ? to_float(Half{pattern}) : to_float(Bfloat16{pattern}));
    }
    for (const float x : {0.0F, 0.0009765625F, 1.0F}) {
      Case made = make_case({1, 1, 0x10000, true, 1, type});
      made.layer = {0, 0, 0, 0, {1}, {0}, {0}, {1}};
      // The mean is 0 and x keeps its bits.
      for (std::size_t i = 0; i < made.x.size(); ++i) made.x[i] = i % 2 == 0 ? x : -x;
      made.residual = all;
      const std::vector<float> y = read_as(type, run(*GetParam(), made, Epilogue::kAddRelu));
      for (std::size_t i = 0; i < y.size(); ++i) {
        const float sum = relu(made.x[i] + all[i]);
        const std::vector<float> expected = read_as(type, stored_as(type, {sum}));
        if (std::isnan(sum)) {
          EXPECT_TRUE(std::isnan(y[i])) << i;
        } else {
          EXPECT_EQ(y[i], expected[0]) << i;
        }
      }
    }
  }
}

// Every half, what lies in the middle between two, and what lies beside that: as the shift of an affine map of zeros.
TEST_P(OnCpu, RoundingIsThatOfOneNumberAtATime) {
  for (const DataType type : {DataType::kFloat16, DataType::kBfloat16}) {
    const std::uint32_t halfway = type == DataType::kFloat16 ? 0x1000U : 0x8000U;
    std::vector<float> all;
    for (std::uint32_t bits = 0; bits < 0x10000U; ++bits) {
      const auto pattern = static_cast<std::uint16_t>(bits);
      const std::uint32_t exact =
          bits_of(type == DataType::kFloat16 ? to_float(Half{pattern}) : to_float(Bfloat16{pattern}));
      for (const std::uint32_t off : {0U, 1U, halfway - 1, halfway, halfway + 1}) {
        all.push_back(float_of(exact + off));
        all.push_back(float_of(exact - off));
      }
    }
    // Subnormal halves, and their middles.
    for (int i = -4096; i < 4096; ++i) all.push_back(static_cast<float>(i) * 0x1p-26F);
    all.push_back(1.0F);  // no multiple of a vector
    all.erase(std::remove_if(all.begin(), all.end(), [](float value) { return std::isnan(value); }), all.end());
    all.insert(all.end(), {std::nanf(""), -std::nanf(""), float_of(0x7F800001U), float_of(0xFFFFFFFFU)});
    const Bytes x(all.size() * 2, 0);
    Bytes y(x.size(), 0xCD);
    std::vector<float> shifts = all;
    std::vector<float> nothing(all.size(), 0.0F);
    GetParam()->apply_row[static_cast<int>(type)][0](
        {x.data(), nullptr, y.data(), 1, static_cast<std::int64_t>(all.size())},
        {nothing.data(), nothing.data(), shifts.data()});
    const std::vector<float> found = read_as(type, y);
    const std::vector<float> expected = read_as(type, stored_as(type, all));
    for (std::size_t i = 0; i < all.size(); ++i) {
      if (std::isnan(all[i])) {
        ASSERT_TRUE(std::isnan(found[i])) << i;
      } else {
        ASSERT_EQ(found[i], expected[i]) << all[i];
      }
    }
  }
}

TEST_P(OnCpu, NanStaysNan) {
  Case made = make_case({2, 5, 49, true, 1, DataType::kFloat32});
  made.x[60] = std::nanf("");
  const std::vector<float> y = read<float>(run(*GetParam(), made, Epilogue::kRelu));
  EXPECT_TRUE(std::isnan(y[0])) << "the whole sample has NaN in its LN";
  EXPECT_FALSE(std::isnan(y[5 * 49])) << "the next sample has not";
}

TEST_P(OnCpu, WithoutWeightsNoStatisticsAreTaken) {
  for (const Sizes& sizes : kSizes) {
    for (const DataType type : kEveryType) {
      const Problem problem{sizes.batch, sizes.channels, sizes.spatial, sizes.has_in, sizes.ddof, type};
      Case made = without_statistics(make_case(problem, 0.5));
      for (const Epilogue epilogue : kEveryEpilogue) {
        EXPECT_LE(error(made, epilogue, run(*GetParam(), made, epilogue, four_threads())), 1.0)
            << sizes.batch << "x" << sizes.channels << "x" << sizes.spatial << " type " << static_cast<int>(type);
      }
      // Statistics would carry one NaN to the whole sample.
      const std::vector<float> before = read_as(type, run(*GetParam(), made, Epilogue::kNone));
      made.x[0] = std::nanf("");
      const std::vector<float> after = read_as(type, run(*GetParam(), made, Epilogue::kNone));
      EXPECT_TRUE(std::isnan(after[0]));
      EXPECT_TRUE(std::equal(before.begin() + 1, before.end(), after.begin() + 1));
    }
  }
}

// With 2048 channels of 7x7 making them for each sample took a quarter of the operator's time.
TEST_P(OnCpu, WithoutWeightsAllSamplesShareTheirCentres) {
  static const Kernels* used;
  static std::set<const double*> centres;
  used = GetParam();
  Kernels watched = *used;
  watched.mix = [](const MixWeights<double>& weights, const Statistics<double>& ln, const ChannelArrays& channels,
                   std::int64_t count, const AffineArrays& out) {
    centres.insert(channels.mean_in);
    used->mix(weights, ln, channels, count, out);
  };
  // One wave, several waves, and rows of several segments.
  for (const Sizes& sizes : {Sizes{9, 67, 49}, Sizes{40000, 2, 3}, Sizes{3, 2, 20000}}) {
    const Case made =
        without_statistics(make_case({sizes.batch, sizes.channels, sizes.spatial, true, 1, DataType::kFloat32}, 0.5));
    centres.clear();
    EXPECT_LE(error(made, Epilogue::kNone, run(watched, made, Epilogue::kNone)), 1.0);
    EXPECT_LE(static_cast<std::int64_t>(centres.size()), sizes.channels);
  }
}

// What the tolerance of these tests must catch.
TEST_P(OnCpu, FaultsAreCaught) {
  const Case made = make_case({2, 8, 49, true, 1, DataType::kBfloat16}, 0.5);
  const auto error_with = [&](auto change) {
    Case changed = made;
    change(&changed);
    return error(made, Epilogue::kRelu, run(*GetParam(), changed, Epilogue::kRelu));
  };
  EXPECT_LE(error_with([](Case*) {}), 1.0);
  EXPECT_GT(error_with([](Case* c) { std::swap(c->layer.mean_in, c->layer.mean_ln); }), 1.0);
  EXPECT_GT(error_with([](Case* c) { std::swap(c->layer.var_in, c->layer.var_ln); }), 1.0);
  EXPECT_GT(error_with([](Case* c) { c->problem.ddof = 0; }), 1.0);
  EXPECT_GT(error_with([](Case* c) { std::swap(c->layer.bias[2], c->layer.bias[3]); }), 1.0);
  EXPECT_GT(error_with([](Case* c) { c->layer.mean_offset[7] += 0.05F; }), 1.0);
  EXPECT_GT(error(made, Epilogue::kRelu, run(*GetParam(), made, Epilogue::kNone)), 1.0);
}

#if defined(__SSE2__)
// As with ONNX Runtime's session.set_denormal_as_zero: a half's subnormals are ordinary floats.
TEST_P(OnCpu, SubnormalHalvesOutliveThoseOfFloats) {
  std::vector<std::uint16_t> x(0x7FF);
  for (std::size_t i = 0; i < x.size(); ++i) x[i] = static_cast<std::uint16_t>(i < 0x400 ? i : 0x8000U + i - 0x3FF);
  std::vector<std::uint16_t> y(x.size(), 0xCDCDU);
  std::vector<float> zeros(x.size(), 0.0F);
  std::vector<float> ones(x.size(), 1.0F);
  const unsigned int before = _mm_getcsr();
  _mm_setcsr(before | 0x8040U);  // flush to zero, denormals are zero
  GetParam()->apply_row[static_cast<int>(DataType::kFloat16)][0](
      {x.data(), nullptr, y.data(), 1, static_cast<std::int64_t>(x.size())}, {zeros.data(), ones.data(), zeros.data()});
  _mm_setcsr(before);
  EXPECT_EQ(y, x);
}
#endif

INSTANTIATE_TEST_SUITE_P(InstructionSets, OnCpu, ::testing::ValuesIn(all_kernels()),
                         [](const auto& param) { return std::string(param.param->name); });

// --- Borders ------------------------------------------------------------------------------------------------------

struct Call {
  Problem problem{1, 2, 4, true, 1, DataType::kFloat32};
  Weights weights{0.3F, 0.3F, 0.3F, 0.3F};
  Epilogue epilogue = Epilogue::kAddRelu;
  std::vector<float> x = std::vector<float>(8, 1.0F), residual = x, y = x;
  std::vector<float> parameters = {1.0F, 1.0F};
  std::vector<double> workspace = std::vector<double>(64);
  Tensors tensors{x.data(),          parameters.data(), parameters.data(), parameters.data(),
                  parameters.data(), residual.data(),   y.data()};
  void* at = workspace.data();
  std::int64_t workspace_size = 64 * 8;
  Parallel parallel = no_threads();

  Status run() { return switch_norm(problem, weights, epilogue, tensors, at, workspace_size, parallel); }
};

TEST(Border, AGoodCallIsAnswered) {
  Call call;
  EXPECT_EQ(call.run(), Status::kOk);
}

TEST(Border, BadCallsAreRefused) {
  const auto status_with = [](auto change) {
    Call call;
    change(&call);
    return call.run();
  };
  EXPECT_EQ(status_with([](Call* c) { c->problem.ddof = 4; }), Status::kDdof);
  EXPECT_EQ(status_with([](Call* c) { c->problem.spatial = 1; }), Status::kTooFewValues);
  EXPECT_EQ(status_with([](Call* c) { c->problem.spatial = 0; }), Status::kEmptySpatial);
  EXPECT_EQ(status_with([](Call* c) { c->weights.var_ln = NAN; }), Status::kWeightNotFinite);
  EXPECT_EQ(status_with([](Call* c) { c->tensors.x = nullptr; }), Status::kNullPointer);
  EXPECT_EQ(status_with([](Call* c) { c->tensors.y = nullptr; }), Status::kNullPointer);
  EXPECT_EQ(status_with([](Call* c) { c->tensors.residual = nullptr; }), Status::kNullPointer);
  EXPECT_EQ(status_with([](Call* c) { c->tensors.scale = nullptr; }), Status::kNullPointer);
  EXPECT_EQ(status_with([](Call* c) { c->tensors.bias = nullptr; }), Status::kNullPointer);
  EXPECT_EQ(status_with([](Call* c) { c->tensors.mean_offset = nullptr; }), Status::kNullPointer);
  EXPECT_EQ(status_with([](Call* c) { c->tensors.var_offset = nullptr; }), Status::kNullPointer);
  EXPECT_EQ(status_with([](Call* c) { c->workspace_size = 8; }), Status::kWorkspace);
  EXPECT_EQ(status_with([](Call* c) { c->at = nullptr; }), Status::kWorkspace);
  EXPECT_EQ(status_with([](Call* c) { c->at = reinterpret_cast<char*>(c->workspace.data()) + 4; }),
            Status::kMisaligned);
  EXPECT_EQ(status_with([](Call* c) {
              c->problem.spatial = 1 << 20;
              c->workspace_size = 1 << 30;
              c->workspace.resize(1 << 20);
              c->at = c->workspace.data();
              c->parallel = broken();
            }),
            Status::kThreads);
}

TEST(Border, AnEmptyBatchNeedsNoMemory) {
  Call call;
  call.problem.batch = 0;
  call.tensors = {};
  EXPECT_EQ(call.run(), Status::kOk);
  // Whatever its other extents are.
  EXPECT_EQ(workspace_bytes({0, 3, std::int64_t{1} << 60, true, 1, DataType::kFloat32}), 0);
}

TEST(Border, TheWorkspaceIsSmall) {
  EXPECT_EQ(workspace_bytes({1, 3, 1, true, 1, DataType::kFloat32}), 0);  // no such problem
  EXPECT_LE(workspace_bytes({1, 2048, 49, true, 1, DataType::kFloat32}), 1 << 20);
  EXPECT_LE(workspace_bytes({std::int64_t{1} << 40, 2, 2, true, 1, DataType::kFloat32}), 8 << 20);
  EXPECT_LE(workspace_bytes({1, 3, std::int64_t{1} << 30, true, 1, DataType::kFloat32}), 8 << 20);
}

TEST(Dispatch, TheBestIsTheWidest) {
  EXPECT_NE(kernels_of(InstructionSet::kBaseline), nullptr);
  EXPECT_EQ(&best_kernels(), all_kernels().back());
}

TEST(Half, RoundTripsAndRounds) {
  for (std::uint32_t bits = 0; bits < 0x10000U; ++bits) {
    const Half half{static_cast<std::uint16_t>(bits)};
    if ((bits & 0x7FFFU) > 0x7C00U) continue;  // NaN
    Half again;
    from_float(to_float(half), &again);
    ASSERT_EQ(again.bits, bits);
  }
  const auto rounded = [](float value) {
    Half half;
    from_float(value, &half);
    return half.bits;
  };
  EXPECT_EQ(rounded(65519.0F), 0x7BFF);
  EXPECT_EQ(rounded(65520.0F), 0x7C00);
  EXPECT_EQ(rounded(1.0F + 0x1p-11F), 0x3C00);      // a tie goes to even
  EXPECT_EQ(rounded(1.0F + 3 * 0x1p-11F), 0x3C02);  // up
  EXPECT_EQ(rounded(0x1p-25F), 0);                  // a tie with 0
  EXPECT_EQ(rounded(0x1.8p-25F), 1);                // the smallest subnormal
  EXPECT_EQ(rounded(-0.0F), 0x8000);
}

}  // namespace
}  // namespace sn_deploy::cpu
