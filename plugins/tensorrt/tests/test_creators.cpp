// Creators: what they are called, what they make, and what they refuse.
#include <cmath>
#include <cstring>
#include <functional>

#include "tensorrt/tests/library.h"

namespace sn_deploy::tensorrt::test {
namespace {

using nvinfer1::IPluginV3;
using nvinfer1::PluginField;
using nvinfer1::PluginFieldCollection;
using nvinfer1::PluginFieldType;
using nvinfer1::TensorRTPhase;

constexpr const char* kNames[] = {"SwitchNorm", "SwitchNormRelu", "SwitchNormAddRelu"};

TEST(Creators, AreNamedAndVersioned) {
  Library library(SN_PLUGIN);
  for (const char* name : kNames) {
    nvinfer1::IPluginCreatorV3One& creator = library.creator(name);
    EXPECT_STREQ(creator.getInterfaceInfo().kind, "PLUGIN CREATOR_V3ONE");
    EXPECT_STREQ(creator.getPluginVersion(), "1");
    EXPECT_STREQ(creator.getPluginNamespace(), "");
    const PluginFieldCollection* fields = creator.getFieldNames();
    const Fields expected;
    ASSERT_EQ(fields->nbFields, 5);
    for (int i = 0; i < 5; ++i) {
      EXPECT_STREQ(fields->fields[i].name, expected.list[i].name);
      EXPECT_EQ(fields->fields[i].type, expected.list[i].type);
      EXPECT_EQ(fields->fields[i].data, nullptr);  // there are no defaults
    }
  }
}

TEST(Creators, MakeAPluginThatSerialisesWhatItWasMadeFrom) {
  Library library(SN_PLUGIN);
  for (const char* name : kNames) {
    Fields fields;
    const PluginFieldCollection given = fields.collection();
    Plugin built(library.creator(name).createPlugin("layer", &given, TensorRTPhase::kBUILD));
    // Through an engine: the fields of a clone, whose original is gone, make the plugin of the runtime.
    Plugin clone(built.owner->clone());
    built.owner.reset();
    Plugin loaded(
        library.creator(name).createPlugin("layer", clone.runtime->getFieldsToSerialize(), TensorRTPhase::kRUNTIME));
    clone.owner.reset();
    const PluginFieldCollection* kept = loaded.runtime->getFieldsToSerialize();
    ASSERT_EQ(kept->nbFields, 5);
    const float expected[] = {0.5F, 0.25F, 0.125F, 0.75F};
    for (int i = 0; i < 4; ++i) {
      EXPECT_STREQ(kept->fields[i].name, fields.list[i].name);
      EXPECT_EQ(*static_cast<const float*>(kept->fields[i].data), expected[i]);
    }
    EXPECT_EQ(*static_cast<const std::int32_t*>(kept->fields[4].data), 1);
    EXPECT_STREQ(loaded.core->getPluginName(), name);
    EXPECT_STREQ(loaded.core->getPluginVersion(), "1");
    EXPECT_STREQ(loaded.core->getPluginNamespace(), "");
    EXPECT_STREQ(loaded.build->getMetadataString(), "mean_in=0.5 mean_ln=0.25 var_in=0.125 var_ln=0.75 ddof=1");
    EXPECT_NE(std::strstr(loaded.build->getTimingCacheID(), name), nullptr);
  }
  EXPECT_EQ(library.finder.take(), "");
}

TEST(Creators, TakeFieldsInAnyOrderAndAtAnyAddress) {
  Library library(SN_PLUGIN);
  Fields fields;
  std::reverse(fields.list.begin(), fields.list.end());
  char buffer[1 + sizeof(float)];
  std::memcpy(buffer + 1, &fields.mean_in, sizeof(float));
  fields.list.back().data = buffer + 1;
  const PluginFieldCollection given = fields.collection();
  Plugin plugin(library.creator("SwitchNorm").createPlugin("layer", &given, TensorRTPhase::kBUILD));
  EXPECT_EQ(*static_cast<const float*>(plugin.runtime->getFieldsToSerialize()->fields[0].data), 0.5F);
}

// Spoils the fields, and expects a refusal that says `reason`.
void expect_refused(const std::function<void(Fields&)>& spoil, const std::string& reason) {
  Library library(SN_PLUGIN);
  Fields fields;
  spoil(fields);
  const PluginFieldCollection given = fields.collection();
  for (const TensorRTPhase phase : {TensorRTPhase::kBUILD, TensorRTPhase::kRUNTIME}) {
    std::unique_ptr<IPluginV3> plugin(library.creator("SwitchNorm").createPlugin("layer", &given, phase));
    EXPECT_EQ(plugin, nullptr) << reason;
    EXPECT_EQ(library.finder.take(), "SwitchNorm: " + reason + "\n");
  }
}

TEST(Creators, RefuseFieldsThatAreMissing) {
  expect_refused([](Fields& f) { f.list.pop_back(); }, "field ddof is missing");
  expect_refused([](Fields& f) { f.list.erase(f.list.begin() + 1); }, "field mean_ln is missing");
  expect_refused([](Fields& f) { f.list.clear(); }, "field mean_in is missing");
}

TEST(Creators, RefuseFieldsTheyDontKnow) {
  const std::string known = "; expected mean_in, mean_ln, var_in, var_ln and ddof";
  expect_refused([](Fields& f) { f.list.emplace_back("eps", &f.mean_in, PluginFieldType::kFLOAT32, 1); },
                 "unknown field eps" + known);
  expect_refused([](Fields& f) { f.list[0].name = nullptr; }, "unknown field without a name" + known);
  expect_refused([](Fields& f) { f.list.push_back(f.list[2]); }, "field var_in is given twice");
}

TEST(Creators, RefuseFieldsOfAnotherTypeOrLength) {
  expect_refused([](Fields& f) { f.list[0].type = PluginFieldType::kFLOAT64; },
                 "field mean_in has type 2; expected kFLOAT32 (1)");
  expect_refused([](Fields& f) { f.list[4].type = PluginFieldType::kFLOAT32; },
                 "field ddof has type 1; expected kINT32 (5)");
  expect_refused([](Fields& f) { f.list[3].length = 2; }, "field var_ln has 2 values; expected 1");
  expect_refused([](Fields& f) { f.list[3].length = 0; }, "field var_ln has 0 values; expected 1");
  expect_refused([](Fields& f) { f.list[3].data = nullptr; }, "field var_ln has no data");
}

TEST(Creators, RefuseValuesThatMeanNothing) {
  expect_refused([](Fields& f) { f.mean_in = std::nanf(""); }, "field mean_in is nan; expected a finite number");
  expect_refused([](Fields& f) { f.var_ln = -INFINITY; }, "field var_ln is -inf; expected a finite number");
  expect_refused([](Fields& f) { f.ddof = 2; }, "field ddof is 2; expected 0 (biased variance) or 1 (unbiased)");
  expect_refused([](Fields& f) { f.ddof = -1; }, "field ddof is -1; expected 0 (biased variance) or 1 (unbiased)");
}

TEST(Creators, RefuseNoFieldsAtAll) {
  Library library(SN_PLUGIN);
  nvinfer1::IPluginCreatorV3One& creator = library.creator("SwitchNormRelu");
  const PluginFieldCollection empty = {5, nullptr};
  EXPECT_EQ(creator.createPlugin("layer", nullptr, TensorRTPhase::kBUILD), nullptr);
  EXPECT_EQ(creator.createPlugin("layer", &empty, TensorRTPhase::kBUILD), nullptr);
  EXPECT_EQ(library.finder.take(), "SwitchNormRelu: no fields were given\nSwitchNormRelu: no fields were given\n");
}

}  // namespace
}  // namespace sn_deploy::tensorrt::test
