// The build phase: types, shapes, formats, tactics and workspace.
#include <map>
#include <utility>

#include "tensorrt/tests/library.h"

namespace sn_deploy::tensorrt::test {
namespace {

using nvinfer1::DataType;
using nvinfer1::DimsExprs;
using nvinfer1::DynamicPluginTensorDesc;
using nvinfer1::PluginTensorDesc;
using nvinfer1::TensorFormat;

class Build : public testing::Test {
 protected:
  Library library_{SN_PLUGIN_FAKE};
  Plugin plain_ = make_plugin(library_, "SwitchNorm");
  Plugin fused_ = make_plugin(library_, "SwitchNormAddRelu");
  std::string logged() { return library_.finder.take(); }
};

TEST_F(Build, IsTheSecondVersionOfItsInterface) {
  EXPECT_STREQ(plain_.build->getInterfaceInfo().kind, "PLUGIN_V3ONE_BUILD");
  EXPECT_EQ(plain_.build->getInterfaceInfo().major, 2);
  EXPECT_EQ(plain_.build->getNbOutputs(), 1);
  EXPECT_EQ(plain_.build->getAliasedInput(0), -1);
  EXPECT_EQ(plain_.owner->getCapabilityInterface(static_cast<nvinfer1::PluginCapabilityType>(9)), nullptr);
}

TEST_F(Build, GivesYTheTypeOfX) {
  for (const DataType type : {DataType::kFLOAT, DataType::kHALF, DataType::kBF16}) {
    const std::vector<DataType> types = {type, DataType::kFLOAT, DataType::kFLOAT, DataType::kFLOAT, DataType::kFLOAT,
                                         type};
    DataType result = DataType::kINT8;
    EXPECT_EQ(plain_.build->getOutputDataTypes(&result, 1, types.data(), 5), 0);
    EXPECT_EQ(result, type);
    result = DataType::kINT8;
    EXPECT_EQ(fused_.build->getOutputDataTypes(&result, 1, types.data(), 6), 0);
    EXPECT_EQ(result, type);
  }
  EXPECT_EQ(logged(), "");
}

TEST_F(Build, RefusesTypesThatNoKernelTakes) {
  const DataType f = DataType::kFLOAT;
  const DataType h = DataType::kHALF;
  DataType result;
  for (const std::vector<DataType>& types : {std::vector<DataType>{DataType::kINT8, f, f, f, f, DataType::kINT8},
                                             {DataType::kFP8, f, f, f, f, DataType::kFP8},
                                             {h, h, f, f, f, h},
                                             {h, f, f, f, h, h},
                                             {h, f, f, f, f, f}}) {
    EXPECT_NE(fused_.build->getOutputDataTypes(&result, 1, types.data(), 6), 0);
    EXPECT_NE(logged().find("X must be float32, float16 or bfloat16"), std::string::npos);
  }
  const std::vector<DataType> short_of_one(5, f);
  EXPECT_NE(fused_.build->getOutputDataTypes(&result, 1, short_of_one.data(), 5), 0);
  EXPECT_EQ(logged(), "SwitchNormAddRelu: 5 inputs; expected 6\n");
  EXPECT_NE(plain_.build->getOutputDataTypes(&result, 2, short_of_one.data(), 5), 0);
  EXPECT_EQ(logged(), "SwitchNorm: 2 outputs; expected 1\n");
}

// Shapes of X, the parameters and the residual; -1 is unknown.
using Shape = std::initializer_list<std::int64_t>;

std::int32_t shapes(const Plugin& plugin, Shape x, Shape parameter, Shape residual, DimsExprs* y) {
  Expressions expressions;
  std::vector<DimsExprs> inputs = {expressions.shape(x)};
  for (int i = 0; i < 4; ++i) inputs.push_back(expressions.shape(parameter));
  if (residual.size() > 0) inputs.push_back(expressions.shape(residual));
  const std::int32_t status = plugin.build->getOutputShapes(inputs.data(), static_cast<std::int32_t>(inputs.size()),
                                                            nullptr, 0, y, 1, expressions);
  if (status == 0) {
    EXPECT_EQ(y->nbDims, inputs[0].nbDims);
    for (int axis = 0; axis < y->nbDims; ++axis) EXPECT_EQ(y->d[axis], inputs[0].d[axis]);
  }
  return status;
}

TEST_F(Build, GivesYTheShapeOfX) {
  DimsExprs y;
  for (const Shape& x :
       {Shape{2, 8, 5, 5}, {-1, 8, -1, -1}, {-1, -1, 7}, {4, 8}, {-1, -1}, {0, 8, 3, 3}, {1, 8, 2, 1, 1}}) {
    for (const Shape& parameter : {Shape{8}, {-1}}) {
      EXPECT_EQ(shapes(plain_, x, parameter, {}, &y), 0);
      EXPECT_EQ(shapes(fused_, x, parameter, x, &y), 0);
    }
  }
  EXPECT_EQ(shapes(fused_, {2, 8, -1, 5}, {8}, {-1, 8, 5, 5}, &y), 0);
  EXPECT_EQ(logged(), "");
}

TEST_F(Build, RefusesShapesWithoutAValue) {
  DimsExprs y;
  EXPECT_NE(shapes(plain_, {8}, {8}, {}, &y), 0);
  EXPECT_EQ(logged(), "SwitchNorm: X has a rank below 2; expected (N, C, *spatial)\n");
  for (const Shape& x : {Shape{2, 8, 5, 5}, {-1, 8, 5, 5}, {4, 8}}) {
    EXPECT_NE(shapes(plain_, x, {7}, {}, &y), 0);
    EXPECT_NE(logged().find("must have shape (C)"), std::string::npos);
  }
  EXPECT_NE(shapes(plain_, {2, 8, 5, 5}, {8, 1}, {}, &y), 0);
  EXPECT_NE(logged().find("must have shape (C)"), std::string::npos);
  EXPECT_NE(shapes(plain_, {-1, 8, 0, -1}, {8}, {}, &y), 0);
  EXPECT_NE(logged().find("empty spatial extent"), std::string::npos);
  EXPECT_NE(shapes(plain_, {-1, 8, 1, 1}, {8}, {}, &y), 0);
  EXPECT_NE(logged().find("too few values for the variance"), std::string::npos);
  EXPECT_NE(shapes(fused_, {2, 8, 5, 5}, {8}, {2, 8, 25}, &y), 0);
  EXPECT_NE(logged().find("the residual must have X's shape"), std::string::npos);
  for (const Shape& residual : {Shape{1, 8, 5, 5}, {2, 1, 5, 5}, {-1, 8, 5, 1}}) {  // nothing is broadcast
    EXPECT_NE(shapes(fused_, {2, 8, 5, 5}, {8}, residual, &y), 0);
    EXPECT_EQ(logged(), "SwitchNormAddRelu: the residual must have X's shape\n");
  }
  EXPECT_NE(shapes(fused_, {2, 8, 5, 5}, {8}, {}, &y), 0);
  EXPECT_EQ(logged(), "SwitchNormAddRelu: 5 inputs; expected 6\n");
  const Plugin biased = make_plugin(library_, "SwitchNorm", 0);
  EXPECT_EQ(shapes(biased, {-1, 8, 1, 1}, {8}, {}, &y), 0);
}

// Asks position by position, as TensorRT does, with the later tensors still unset.
bool accepts(const Plugin& plugin, const std::vector<PluginTensorDesc>& tensors) {
  const auto inputs = static_cast<std::int32_t>(tensors.size()) - 1;
  std::vector<DynamicPluginTensorDesc> known(tensors.size());
  for (std::int32_t i = 0; i <= inputs; ++i) {
    known[static_cast<std::size_t>(i)].desc = tensors[static_cast<std::size_t>(i)];
    if (!plugin.build->supportsFormatCombination(i, known.data(), inputs, 1)) return false;
  }
  return true;
}

TEST_F(Build, TakesLinearAndChannelsLastFormats) {
  const std::map<int, std::vector<std::int64_t>> shapes_of_rank = {
      {2, {2, 8}}, {3, {2, 8, 5}}, {4, {2, 8, 5, 5}}, {5, {2, 8, 3, 5, 5}}};
  const std::vector<std::pair<DataType, TensorFormat>> everywhere = {{DataType::kFLOAT, TensorFormat::kLINEAR},
                                                                     {DataType::kHALF, TensorFormat::kLINEAR},
                                                                     {DataType::kBF16, TensorFormat::kLINEAR}};
  const std::map<int, std::vector<std::pair<DataType, TensorFormat>>> more = {
      {4,
       {{DataType::kFLOAT, TensorFormat::kHWC},
        {DataType::kHALF, TensorFormat::kHWC8},
        {DataType::kBF16, TensorFormat::kHWC8}}},
      {5,
       {{DataType::kFLOAT, TensorFormat::kDHWC},
        {DataType::kHALF, TensorFormat::kDHWC8},
        {DataType::kBF16, TensorFormat::kDHWC8}}}};
  for (const auto& [rank, extents] : shapes_of_rank) {
    std::size_t accepted = 0;
    for (int type = 0; type <= static_cast<int>(DataType::kFP4); ++type) {
      for (int format = 0; format <= static_cast<int>(TensorFormat::kDHWC); ++format) {
        auto tensors =
            tensors_of("SwitchNormAddRelu", {2, 8}, static_cast<DataType>(type), static_cast<TensorFormat>(format));
        for (const std::size_t i : {0, 5, 6}) {
          tensors[i].dims.nbDims = rank;
          std::copy(extents.begin(), extents.end(), tensors[i].dims.d);
        }
        accepted += accepts(fused_, tensors) ? 1 : 0;
      }
    }
    std::vector<std::pair<DataType, TensorFormat>> expected = everywhere;
    if (more.count(rank) != 0) expected.insert(expected.end(), more.at(rank).begin(), more.at(rank).end());
    EXPECT_EQ(accepted, expected.size()) << "rank " << rank;
    for (const auto& [type, format] : expected) {
      auto tensors = tensors_of("SwitchNormAddRelu", {2, 8}, type, format);
      for (const std::size_t i : {0, 5, 6}) {
        tensors[i].dims.nbDims = rank;
        std::copy(extents.begin(), extents.end(), tensors[i].dims.d);
      }
      EXPECT_TRUE(accepts(fused_, tensors));
    }
  }
}

TEST_F(Build, WantsOneFormatForXTheResidualAndY) {
  const auto good = tensors_of("SwitchNormAddRelu", {2, 8, 5, 5}, DataType::kHALF, TensorFormat::kHWC8);
  ASSERT_TRUE(accepts(fused_, good));
  for (const std::size_t i : {5, 6}) {
    auto tensors = good;
    tensors[i].format = TensorFormat::kLINEAR;
    EXPECT_FALSE(accepts(fused_, tensors));
    tensors = good;
    tensors[i].type = DataType::kBF16;
    EXPECT_FALSE(accepts(fused_, tensors));
  }
  for (const std::size_t i : {1, 2, 3, 4}) {
    auto tensors = good;
    tensors[i].type = DataType::kHALF;
    EXPECT_FALSE(accepts(fused_, tensors));
    tensors = good;
    tensors[i].format = TensorFormat::kHWC8;
    EXPECT_FALSE(accepts(fused_, tensors));
  }
  const auto five = profile_of(tensors_of("SwitchNorm", {2, 8, 5, 5}), 1, 2);
  EXPECT_FALSE(fused_.build->supportsFormatCombination(0, five.data(), 5, 1));
  EXPECT_FALSE(plain_.build->supportsFormatCombination(-1, five.data(), 5, 1));
  EXPECT_FALSE(plain_.build->supportsFormatCombination(6, five.data(), 5, 1));
}

TEST_F(Build, AsksForTheWorkspaceOfTheLargestShape) {
  const auto profile = profile_of(tensors_of("SwitchNorm", {1, 8, 5, 5}), 2, 6);
  EXPECT_EQ(plain_.build->getWorkspaceSize(profile.data(), 5, &profile[5], 1), 6U * 8 * 12 + 25);
  auto bad = profile;
  bad[0].max.d[1] = 9;
  EXPECT_EQ(plain_.build->getWorkspaceSize(bad.data(), 5, &bad[5], 1), 0U);
  EXPECT_NE(logged().find("must have shape (C)"), std::string::npos);
  library_.launcher()->workspace_status = 11;
  EXPECT_EQ(plain_.build->getWorkspaceSize(profile.data(), 5, &profile[5], 1), 0U);
  EXPECT_EQ(logged(), "SwitchNorm: the sizes overflow 64 bits\n");
  library_.launcher()->workspace_status = 0;
}

TEST_F(Build, OffersTheTacticsOfTheConfiguredShape) {
  const auto profile = profile_of(tensors_of("SwitchNorm", {1, 8, 5, 5}), 2, 6);
  ASSERT_EQ(plain_.build->configurePlugin(profile.data(), 5, &profile[5], 1), 0);
  ASSERT_EQ(plain_.build->getNbTactics(), 3);
  std::int32_t tactics[3] = {};
  EXPECT_EQ(plain_.build->getValidTactics(tactics, 3), 0);
  for (int i = 0; i < 3; ++i) EXPECT_EQ(tactics[i], kFakeTactics[i]);
  EXPECT_EQ(logged(), "");
  library_.launcher()->list_status = 16;
  EXPECT_EQ(plain_.build->getNbTactics(), 0);
  EXPECT_NE(logged().find("a fake device error"), std::string::npos);
  EXPECT_NE(plain_.build->getValidTactics(tactics, 3), 0);
  library_.launcher()->list_status = 0;
}

// Of the profile's optimum, in the type and the format for which tactics are to be timed; a clone, too.
TEST_F(Build, AsksForTheTacticsOfTheOptimumInItsFormat) {
  const auto profile =
      profile_of(tensors_of("SwitchNormAddRelu", {1, 12, 5, 5}, DataType::kHALF, TensorFormat::kHWC8), 2, 6);
  ASSERT_EQ(fused_.build->configurePlugin(profile.data(), 6, &profile[6], 1), 0);
  const Plugin clone(fused_.owner->clone());
  std::int32_t tactics[3] = {};
  for (int call = 0; call < 3; ++call) {
    *library_.launcher() = {};
    if (call == 2) {
      EXPECT_EQ(fused_.build->getValidTactics(tactics, 3), 0);
    } else {
      EXPECT_EQ((call == 0 ? fused_ : clone).build->getNbTactics(), 3);
    }
    const SnCudaProblem& listed = library_.launcher()->listed;
    EXPECT_EQ(listed.batch, 2);
    EXPECT_EQ(listed.channels, 12);
    EXPECT_EQ(listed.spatial, 25);
    EXPECT_EQ(listed.stored_channels, 16);
    EXPECT_EQ(listed.data_type, 1);
    EXPECT_EQ(listed.layout, 1);
    EXPECT_EQ(listed.epilogue, 2);
  }
}

TEST_F(Build, RefusesToBeConfiguredForShapesWithoutAValue) {
  auto profile = profile_of(tensors_of("SwitchNormAddRelu", {1, 8, 5, 5}), 2, 6);
  EXPECT_EQ(fused_.build->configurePlugin(profile.data(), 6, &profile[6], 1), 0);
  profile[5].max.d[2] = 6;
  EXPECT_NE(fused_.build->configurePlugin(profile.data(), 6, &profile[6], 1), 0);
  EXPECT_EQ(logged(), "SwitchNormAddRelu: the residual must have X's shape\n");
  EXPECT_NE(fused_.build->configurePlugin(profile.data(), 5, &profile[6], 1), 0);
  EXPECT_EQ(logged(), "SwitchNormAddRelu: 5 inputs; expected 6\n");
  EXPECT_NE(fused_.build->configurePlugin(nullptr, 6, nullptr, 1), 0);
}

// With fewer channels more may have to be written down (core/plan.h): enqueue would write behind the workspace.
TEST_F(Build, RefusesAProfileWithSeveralNumbersOfChannels) {
  auto profile = profile_of(tensors_of("SwitchNorm", {1, 64, 23, 23}), 2, 6);
  for (std::size_t i = 0; i < 5; ++i) {
    profile[i].desc.dims.d[i == 0 ? 1 : 0] = -1;
    profile[i].min.d[i == 0 ? 1 : 0] = 60;
  }
  EXPECT_NE(plain_.build->configurePlugin(profile.data(), 5, &profile[5], 1), 0);
  EXPECT_EQ(logged(),
            "SwitchNorm: the parameters' length goes from 60 to 64 in one profile; C has to be the same throughout\n");
  for (std::size_t i = 1; i < 5; ++i) profile[i].min.d[0] = 64;  // X alone says less than the parameters
  EXPECT_EQ(plain_.build->configurePlugin(profile.data(), 5, &profile[5], 1), 0);
  for (std::size_t i = 1; i < 5; ++i) {
    profile[i].desc.dims.d[0] = 64;  // a constant's: its bounds don't matter
    profile[i].min.d[0] = 0;
  }
  EXPECT_EQ(plain_.build->configurePlugin(profile.data(), 5, &profile[5], 1), 0);
}

}  // namespace
}  // namespace sn_deploy::tensorrt::test
