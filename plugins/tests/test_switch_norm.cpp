// The mathematics of core/switch_norm.h against a separately written float64 evaluation of the published equations.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <ostream>
#include <random>
#include <vector>

#include "core/switch_norm.h"

namespace sn_deploy {
namespace {

using Values = std::vector<float>;

// Of float32 statistics, relative to the deviation for means and to the value for variances.
constexpr double kTolerance = 1e-5;

Values random_values(std::size_t count, double mean, double deviation, unsigned seed) {
  std::mt19937 generator(seed);
  std::normal_distribution<double> normal(mean, deviation);
  Values values(count);
  for (float& value : values) value = static_cast<float>(normal(generator));
  return values;
}

struct Reference {
  double mean;
  double m2;
};

Reference reference(const Values& values) {
  long double sum = 0;
  for (const float value : values) sum += value;
  const long double mean = sum / static_cast<long double>(values.size());
  long double m2 = 0;
  for (const float value : values) m2 += (value - mean) * (value - mean);
  return {static_cast<double>(mean), static_cast<double>(m2)};
}

// The moments of [begin, end) as a kernel takes them: a block's mean, then the sums of d and d^2 around it.
Moments<float> block_moments(const Values& values, std::size_t begin, std::size_t end) {
  const float count = static_cast<float>(end - begin);
  float offset = 0;  // from the first value, so that the sum stays small
  for (std::size_t i = begin; i < end; ++i) offset += values[i] - values[begin];
  const float centre = values[begin] + offset / count;
  float sum = 0;
  float squares = 0;
  for (std::size_t i = begin; i < end; ++i) {
    const float d = values[i] - centre;
    sum += d;
    squares += d * d;
  }
  return moments_from_centred_sums(count, centre, sum, squares);
}

// The textbook's way, which a large mean defeats: a fault that the tolerance must catch.
Moments<float> cancelling_moments(const Values& values) {
  float sum = 0;
  float squares = 0;
  for (const float value : values) {
    sum += value;
    squares += value * value;
  }
  const float count = static_cast<float>(values.size());
  return {count, sum / count, squares - sum * sum / count};
}

// Chan's formula without the distance of the means.
Moments<float> merge_without_delta(Moments<float> a, Moments<float> b) {
  const float count = a.count + b.count;
  return {count, (a.mean * a.count + b.mean * b.count) / count, a.m2 + b.m2};
}

double error(const Moments<float>& moments, const Values& values) {
  const Reference exact = reference(values);
  const double deviation = std::sqrt(exact.m2 / static_cast<double>(values.size()));
  const double mean_error = std::abs(static_cast<double>(moments.mean) - exact.mean) / std::abs(exact.mean);
  const double m2_error = std::abs(static_cast<double>(moments.m2) - exact.m2) / exact.m2;
  return deviation == 0 ? mean_error : std::max(mean_error, m2_error);
}

struct Ratio {
  double mean;
  double deviation;
};

void PrintTo(const Ratio& ratio, std::ostream* out) {
  *out << "mean " << ratio.mean << " deviation " << ratio.deviation;
}

std::vector<Moments<float>> blocks_of(const Values& values, std::size_t block) {
  std::vector<Moments<float>> parts;
  for (std::size_t begin = 0; begin < values.size(); begin += block) {
    parts.push_back(block_moments(values, begin, std::min(begin + block, values.size())));
  }
  return parts;
}

Moments<float> merged_in_sequence(const std::vector<Moments<float>>& parts) {
  Moments<float> merged = no_moments<float>();
  for (const Moments<float>& part : parts) merged = merge(merged, part);
  return merged;
}

Moments<float> merged_as_tree(std::vector<Moments<float>> parts) {
  while (parts.size() > 1) {
    std::vector<Moments<float>> next;
    for (std::size_t i = 0; i + 1 < parts.size(); i += 2) next.push_back(merge(parts[i], parts[i + 1]));
    if (parts.size() % 2 == 1) next.push_back(parts.back());
    parts = next;
  }
  return parts[0];
}

class LargeMean : public testing::TestWithParam<Ratio> {};

TEST_P(LargeMean, MomentsOfAnySplitKeepTheirDigits) {
  const Values values = random_values(12544, GetParam().mean, GetParam().deviation, 1);
  for (const std::size_t block : {12544U, 3136U, 512U, 33U, 7U, 2U, 1U}) {
    const std::vector<Moments<float>> parts = blocks_of(values, block);
    EXPECT_EQ(merged_as_tree(parts).count, 12544.0F);
    EXPECT_LE(error(merged_as_tree(parts), values), kTolerance) << "blocks of " << block;
    // One after the other the roundings of the mean add up: a kernel does so with tens of parts, not thousands.
    if (parts.size() < 500) {
      EXPECT_LE(error(merged_in_sequence(parts), values), kTolerance) << "blocks of " << block;
    }
  }
}

TEST_P(LargeMean, ATreeOfEqualBlocksKeepsItsDigits) {
  const Values values = random_values(1024, GetParam().mean, GetParam().deviation, 2);
  std::vector<Moments<float>> level = blocks_of(values, 8);
  while (level.size() > 1) {
    std::vector<Moments<float>> next;
    for (std::size_t i = 0; i < level.size(); i += 2) next.push_back(merge_equal(level[i], level[i + 1]));
    level = next;
  }
  EXPECT_LE(error(level[0], values), kTolerance);
}

INSTANTIATE_TEST_SUITE_P(Ratios, LargeMean,
                         testing::Values(Ratio{1.0, 1.0}, Ratio{1000.0, 1.0}, Ratio{-1000.0, 1.0}, Ratio{1e5, 100.0},
                                         Ratio{1e-3, 1e-6}, Ratio{100.0, 0.1}));

TEST(Moments, TheCancellingFormulaIsCaught) {
  const Values values = random_values(12544, 1000, 1, 1);
  EXPECT_GT(error(cancelling_moments(values), values), 100 * kTolerance);
}

TEST(Moments, AMergeThatForgetsTheDistanceOfTheMeansIsCaught) {
  Values values = random_values(100, 0, 1, 3);
  for (std::size_t i = 50; i < 100; ++i) values[i] += 2.0F;
  const Moments<float> a = block_moments(values, 0, 50);
  const Moments<float> b = block_moments(values, 50, 100);
  EXPECT_LE(error(merge(a, b), values), kTolerance);
  EXPECT_GT(error(merge_without_delta(a, b), values), 100 * kTolerance);
}

TEST(Moments, ARandomTreeOfMergesAgreesWithOnePass) {
  std::mt19937 generator(4);
  const Values values = random_values(3000, 10, 2, 5);
  for (int trial = 0; trial < 50; ++trial) {
    std::vector<Moments<float>> parts;
    std::size_t begin = 0;
    while (begin < values.size()) {
      const std::size_t end = std::min(values.size(), begin + 1 + generator() % 400);
      parts.push_back(block_moments(values, begin, end));
      begin = end;
    }
    while (parts.size() > 1) {
      const std::size_t at = generator() % (parts.size() - 1);
      parts[at] = merge(parts[at], parts[at + 1]);
      parts.erase(parts.begin() + static_cast<std::ptrdiff_t>(at) + 1);
    }
    EXPECT_LE(error(parts[0], values), kTolerance);
  }
}

TEST(Moments, AccumulatingIsMergingOneValue) {
  Moments<double> stepped = no_moments<double>();
  Moments<double> merged = no_moments<double>();
  for (const float value : random_values(200, 3, 1, 6)) {
    stepped = accumulate(stepped, static_cast<double>(value));
    merged = merge(merged, Moments<double>{1, static_cast<double>(value), 0});
    EXPECT_NEAR(stepped.mean, merged.mean, 1e-12);
    EXPECT_NEAR(stepped.m2, merged.m2, 1e-10);
  }
}

TEST(Moments, NothingMergesToTheOther) {
  const Moments<float> some = block_moments({1.0F, 2.0F, 4.0F}, 0, 3);
  for (const Moments<float>& merged : {merge(no_moments<float>(), some), merge(some, no_moments<float>())}) {
    EXPECT_EQ(merged.count, 3.0F);
    EXPECT_FLOAT_EQ(merged.mean, some.mean);
    EXPECT_FLOAT_EQ(merged.m2, some.m2);
  }
  EXPECT_EQ(merge(no_moments<float>(), no_moments<float>()).count, 0.0F);
}

TEST(Moments, EqualMergeIsSymmetricToTheBit) {
  const Values values = random_values(64, 100, 1, 7);
  const Moments<float> a = block_moments(values, 0, 32);
  const Moments<float> b = block_moments(values, 32, 64);
  const Moments<float> ab = merge_equal(a, b);
  const Moments<float> ba = merge_equal(b, a);
  EXPECT_EQ(ab.mean, ba.mean);
  EXPECT_EQ(ab.m2, ba.m2);
  EXPECT_NEAR(ab.m2, merge(a, b).m2, 1e-4);
}

TEST(Moments, TwoEqualValuesHaveNoVariance) {
  const Moments<float> two = block_moments({1000.1F, 1000.1F}, 0, 2);
  EXPECT_EQ(two.m2, 0.0F);
  EXPECT_EQ(channel_statistics(two, 1.0F).var, 0.0F);
}

TEST(Moments, RoundingNeverMakesAVarianceNegative) {
  EXPECT_EQ(moments_from_centred_sums(2.0F, 1.0F, 1e-3F, 0.0F).m2, 0.0F);
  EXPECT_TRUE(std::isnan(moments_from_centred_sums(2.0F, 1.0F, NAN, NAN).m2));
}

// --- The whole layer ----------------------------------------------------------------------------------------------

struct Layer {
  int channels;
  int spatial;
  bool has_in = true;
  int ddof = 1;
  double mean = 0;
  float mean_in = 0.3F, mean_ln = 0.5F, var_in = 0.2F, var_ln = 0.6F;
};

struct Sample {
  Values x;
  std::vector<ChannelParameters<double>> parameters;
};

Sample make_sample(const Layer& layer) {
  std::mt19937 generator(11);
  std::normal_distribution<double> normal;
  Sample sample;
  for (int c = 0; c < layer.channels; ++c) {
    const double own = layer.mean + normal(generator);
    for (int i = 0; i < layer.spatial; ++i) sample.x.push_back(static_cast<float>(own + normal(generator)));
    sample.parameters.push_back({static_cast<float>(1 + 0.1 * normal(generator)), static_cast<float>(normal(generator)),
                                 static_cast<float>(0.2 * layer.mean), 0.2F});
  }
  return sample;
}

// The published form, y = (x - mean) / sqrt(var) * scale + bias, channel by channel in long double.
std::vector<double> published(const Layer& layer, const Sample& sample) {
  using Real = long double;
  const auto at = [&](int c, int i) {
    return static_cast<Real>(sample.x[static_cast<std::size_t>(c * layer.spatial + i)]);
  };
  const auto channels = static_cast<std::size_t>(layer.channels);
  std::vector<Real> mean_in(channels, 0);
  std::vector<Real> var_in(channels, 0);
  for (int c = 0; c < layer.channels; ++c) {
    const auto index = static_cast<std::size_t>(c);
    for (int i = 0; i < layer.spatial; ++i) mean_in[index] += at(c, i) / layer.spatial;
    for (int i = 0; i < layer.spatial; ++i) {
      var_in[index] += (at(c, i) - mean_in[index]) * (at(c, i) - mean_in[index]) / (layer.spatial - layer.ddof);
    }
  }
  Real mean_ln = 0;
  for (const Real mean : mean_in) mean_ln += mean / layer.channels;
  Real var_ln = 0;
  for (std::size_t c = 0; c < channels; ++c) {
    const Real apart = (mean_in[c] - mean_ln) * (mean_in[c] - mean_ln);
    var_ln += layer.has_in ? (var_in[c] + apart) / layer.channels : apart / (layer.channels - layer.ddof);
  }
  std::vector<double> y;
  for (int c = 0; c < layer.channels; ++c) {
    const auto index = static_cast<std::size_t>(c);
    const ChannelParameters<double>& own = sample.parameters[index];
    const Real in_mean = layer.has_in ? layer.mean_in * mean_in[index] : 0;
    const Real in_var = layer.has_in ? layer.var_in * var_in[index] : 0;
    const Real mean = in_mean + layer.mean_ln * mean_ln + own.mean_offset;
    const Real deviation = std::sqrt(in_var + layer.var_ln * var_ln + own.var_offset);
    for (int i = 0; i < layer.spatial; ++i) {
      y.push_back(static_cast<double>((at(c, i) - mean) / deviation * own.scale + own.bias));
    }
  }
  return y;
}

template <typename T>
ChannelParameters<T> as(const ChannelParameters<double>& from) {
  return {static_cast<T>(from.scale), static_cast<T>(from.bias), static_cast<T>(from.mean_offset),
          static_cast<T>(from.var_offset)};
}

// As a kernel computes it. `split` is the number of channels whose LN moments are merged as one part.
template <typename T>
std::vector<double> computed(const Layer& layer, const Sample& sample, int split = 1000000) {
  const auto channels = static_cast<std::size_t>(layer.channels);
  const auto spatial = static_cast<std::size_t>(layer.spatial);
  const MixWeights<T> weights = mix_weights<T>(layer.mean_in, layer.mean_ln, layer.var_in, layer.var_ln, layer.has_in);
  std::vector<Affine<T>> maps;
  if (layer.has_in) {
    std::vector<Statistics<T>> in;
    LayerMoments<T> all = no_layer_moments<T>();
    LayerMoments<T> part = no_layer_moments<T>();
    for (std::size_t c = 0; c < channels; ++c) {
      const Moments<float> moments = block_moments(sample.x, c * spatial, (c + 1) * spatial);
      const Moments<T> wide{static_cast<T>(moments.count), static_cast<T>(moments.mean), static_cast<T>(moments.m2)};
      in.push_back(channel_statistics(wide, static_cast<T>(layer.spatial - layer.ddof)));
      part = accumulate(part, in.back());
      if ((static_cast<int>(c) + 1) % split == 0 || c + 1 == channels) {
        all = merge(all, part);
        part = no_layer_moments<T>();
      }
    }
    const Statistics<T> ln = layer_statistics(all);
    for (std::size_t c = 0; c < channels; ++c) maps.push_back(mix(weights, in[c], ln, as<T>(sample.parameters[c])));
  } else {
    const Moments<float> moments = block_moments(sample.x, 0, channels);
    const Moments<T> wide{static_cast<T>(moments.count), static_cast<T>(moments.mean), static_cast<T>(moments.m2)};
    const Statistics<T> ln = row_statistics(wide, static_cast<T>(layer.channels - layer.ddof));
    for (std::size_t c = 0; c < channels; ++c) maps.push_back(mix_row(weights, ln, as<T>(sample.parameters[c])));
  }
  std::vector<double> y;
  for (std::size_t i = 0; i < sample.x.size(); ++i) {
    y.push_back(static_cast<double>(apply(maps[i / spatial], static_cast<T>(sample.x[i]))));
  }
  return y;
}

double largest_difference(const std::vector<double>& a, const std::vector<double>& b) {
  double largest = 0;
  for (std::size_t i = 0; i < a.size(); ++i) largest = std::max(largest, std::abs(a[i] - b[i]));
  return largest;
}

const Layer kLayers[] = {
    {1, 49},  // C = 1: LN is IN
    {7, 2},   // HW = 2, the fewest for an unbiased variance
    {3, 1, true, 0},
    {64, 196},
    {64, 196, true, 0},
    {31, 100, true, 1, 3.0, 1.0F, 0.0F, 1.0F, 0.0F},  // one-hot, as a sparse layer's
    {31, 100, true, 1, 3.0, 0.0F, 1.0F, 0.0F, 1.0F},
    {31, 100, true, 1, 3.0, 0.0F, 0.0F, 0.0F, 0.0F},
    {40, 1, false},
    {40, 1, false, 0},
    {2, 1, false},
    {40, 1, false, 1, 0.0, 0.4F, 0.3F, 0.4F, 0.3F},  // weights of an IN part that isn't there
};

TEST(Layer, AgreesWithThePublishedEquations) {
  for (const Layer& layer : kLayers) {
    const Sample sample = make_sample(layer);
    const std::vector<double> expected = published(layer, sample);
    EXPECT_LE(largest_difference(computed<float>(layer, sample), expected), 3e-5)
        << layer.channels << "x" << layer.spatial;
    EXPECT_LE(largest_difference(computed<double>(layer, sample), expected), 3e-5);
  }
}

TEST(Layer, AnySplitOfTheChannelsGivesTheSame) {
  const Layer layer{64, 49};
  const Sample sample = make_sample(layer);
  const std::vector<double> expected = computed<float>(layer, sample);
  for (const int split : {1, 3, 8, 17, 63}) {
    EXPECT_LE(largest_difference(computed<float>(layer, sample, split), expected), 4e-6) << split;
  }
}

TEST(Layer, ALargeMeanCostsOnlyWhatItsOwnRoundingCosts) {
  const Layer layer{16, 400, true, 1, 1000.0};
  const Sample sample = make_sample(layer);
  // Half a unit in the last place of 1000, a few times over.
  EXPECT_LE(largest_difference(computed<float>(layer, sample), published(layer, sample)), 4 * 6.1e-5);
  EXPECT_LE(largest_difference(computed<double>(layer, sample), published(layer, sample)), 4 * 6.1e-5);
}

TEST(Layer, ABiasedVarianceInPlaceOfAnUnbiasedOneIsCaught) {
  Layer layer{8, 49};
  const Sample sample = make_sample(layer);
  const std::vector<double> expected = published(layer, sample);
  layer.ddof = 0;
  EXPECT_GT(largest_difference(computed<float>(layer, sample), expected), 1e-3);
}

TEST(Layer, SwappedMixWeightsAreCaught) {
  Layer layer{8, 49};
  const Sample sample = make_sample(layer);
  const std::vector<double> expected = published(layer, sample);
  std::swap(layer.mean_in, layer.mean_ln);
  EXPECT_GT(largest_difference(computed<float>(layer, sample), expected), 1e-3);
}

TEST(Layer, AroundAnotherCentreIsTheSameMap) {
  const Affine<double> map{1000.123456789, 2.0, -1.0};
  const Affine<double> other = around(map, 1000.0);
  EXPECT_EQ(other.centre, 1000.0);
  for (const double x : {0.0, 1000.0, 1001.5}) EXPECT_NEAR(apply(map, x), apply(other, x), 1e-9);
}

TEST(Epilogue, IsTheOperatorsTail) {
  EXPECT_EQ(finish<Epilogue::kNone>(-1.0F, 5.0F), -1.0F);
  EXPECT_EQ(finish<Epilogue::kRelu>(-1.0F, 5.0F), 0.0F);
  EXPECT_EQ(finish<Epilogue::kRelu>(2.0F, 5.0F), 2.0F);
  EXPECT_EQ(finish<Epilogue::kAddRelu>(-1.0F, 5.0F), 4.0F);
  EXPECT_EQ(finish<Epilogue::kAddRelu>(-7.0F, 5.0F), 0.0F);
  EXPECT_TRUE(std::isnan(finish<Epilogue::kRelu>(NAN, 0.0F)));
  EXPECT_TRUE(std::isnan(finish<Epilogue::kAddRelu>(1.0F, NAN)));
}

}  // namespace
}  // namespace sn_deploy
