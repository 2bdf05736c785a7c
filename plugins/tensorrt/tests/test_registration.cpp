// Loading: the library's face, and its registration of itself.
#include <dlfcn.h>

#include "tensorrt/tests/library.h"

namespace sn_deploy::tensorrt::test {
namespace {

TEST(Registration, DoesNothingWithoutTensorRt) {
  void* handle = dlopen(SN_PLUGIN, RTLD_NOW | RTLD_LOCAL);
  ASSERT_NE(handle, nullptr) << dlerror();
  EXPECT_EQ(dlclose(handle), 0);
}

TEST(Registration, ExportsNothingButItsEntries) {
  void* handle = dlopen(SN_PLUGIN, RTLD_NOW | RTLD_LOCAL);
  ASSERT_NE(handle, nullptr) << dlerror();
  EXPECT_NE(dlsym(handle, "getCreators"), nullptr);
  EXPECT_NE(dlsym(handle, "setLoggerFinder"), nullptr);
  EXPECT_EQ(dlsym(handle, "sn_cuda_launch"), nullptr);
  dlclose(handle);
}

// An engine that carries a lean runtime and this library unloads both. Before the tests that load a full TensorRT,
// which would be found first.
TEST(BesideLeanRuntime, LeavesNothingBehind) {
  void* lean = dlopen(SN_FAKE_LEAN, RTLD_NOW | RTLD_LOCAL);
  ASSERT_NE(lean, nullptr) << dlerror();
  const auto registered = reinterpret_cast<int (*)()>(dlsym(lean, "sn_fake_registered"));
  void* plugin = dlopen(SN_PLUGIN, RTLD_NOW | RTLD_LOCAL);
  EXPECT_EQ(registered(), 3);
  dlclose(plugin);
  EXPECT_EQ(registered(), 0);
  dlclose(lean);
  EXPECT_EQ(dlopen(SN_FAKE_LEAN, RTLD_NOW | RTLD_LOCAL | RTLD_NOLOAD), nullptr);
}

class BesideTensorRt : public testing::Test {
 protected:
  void SetUp() override {
    nvinfer_ = dlopen(SN_FAKE_NVINFER, RTLD_NOW | RTLD_LOCAL);
    ASSERT_NE(nvinfer_, nullptr) << dlerror();
    registered_ = reinterpret_cast<int (*)()>(dlsym(nvinfer_, "sn_fake_registered"));
    ASSERT_EQ(registered_(), 0);
  }
  void TearDown() override { dlclose(nvinfer_); }
  void* nvinfer_ = nullptr;
  int (*registered_)() = nullptr;
};

TEST_F(BesideTensorRt, RegistersItselfForAsLongAsItIsLoaded) {
  void* plugin = dlopen(SN_PLUGIN, RTLD_NOW | RTLD_LOCAL);
  ASSERT_NE(plugin, nullptr) << dlerror();
  EXPECT_EQ(registered_(), 3);
  dlclose(plugin);
  EXPECT_EQ(registered_(), 0);
}

TEST_F(BesideTensorRt, LeavesTheRegistryToTensorRtWhenThatLoadsIt) {
  testing::internal::CaptureStderr();
  {
    Library library(SN_PLUGIN);
    EXPECT_EQ(registered_(), 0);
    EXPECT_NO_THROW(library.creator("SwitchNorm"));
    EXPECT_EQ(registered_(), 0);
    EXPECT_EQ(library.finder.take(), "");
  }
  EXPECT_EQ(registered_(), 0);
  EXPECT_EQ(testing::internal::GetCapturedStderr(), "");  // it takes nothing back twice
}

// Whom nobody has told of a finder: TensorRT's own logger, or stderr.
TEST_F(BesideTensorRt, LogsToTheProcess) {
  struct Logger final : nvinfer1::ILogger {
    void log(Severity severity, const char* message) noexcept override {
      EXPECT_EQ(severity, Severity::kERROR);
      messages.append(message).append("\n");
    }
    std::string messages;
  } logger;
  const auto log_to = reinterpret_cast<void (*)(nvinfer1::ILogger*)>(dlsym(nvinfer_, "sn_fake_log_to"));
  void* plugin = dlopen(SN_PLUGIN, RTLD_NOW | RTLD_LOCAL);
  ASSERT_NE(plugin, nullptr) << dlerror();
  using GetCreators = nvinfer1::IPluginCreatorInterface* const* (*)(std::int32_t&);
  std::int32_t count = 0;
  auto* creator = static_cast<nvinfer1::IPluginCreatorV3One*>(
      reinterpret_cast<GetCreators>(dlsym(plugin, "getCreators"))(count)[0]);
  const auto refuse = [&] {
    EXPECT_EQ(creator->createPlugin("layer", nullptr, nvinfer1::TensorRTPhase::kBUILD), nullptr);
  };
  log_to(&logger);
  testing::internal::CaptureStderr();
  refuse();
  EXPECT_EQ(testing::internal::GetCapturedStderr(), "");
  EXPECT_EQ(logger.messages, "SwitchNorm: no fields were given\n");
  log_to(nullptr);
  testing::internal::CaptureStderr();
  refuse();
  EXPECT_EQ(testing::internal::GetCapturedStderr(), "SwitchNorm: no fields were given\n");
  dlclose(plugin);
}

// Triton unloads its backend, the only one to hold libnvinfer, and never the plugins that it loaded.
TEST_F(BesideTensorRt, KeepsTensorRtForAsLongAsItIsRegistered) {
  void* plugin = dlopen(SN_PLUGIN, RTLD_NOW | RTLD_LOCAL);
  ASSERT_NE(plugin, nullptr) << dlerror();
  dlclose(nvinfer_);
  EXPECT_EQ(dlclose(plugin), 0);
  nvinfer_ = dlopen(SN_FAKE_NVINFER, RTLD_NOW | RTLD_LOCAL | RTLD_NOLOAD);
  ASSERT_NE(nvinfer_, nullptr) << "the registry that the plugin asks at its end was gone";
  EXPECT_EQ(registered_(), 0);
}

TEST_F(BesideTensorRt, ASecondCopyLeavesTheFirstAlone) {
  void* first = dlopen(SN_PLUGIN, RTLD_NOW | RTLD_LOCAL);
  void* second = dlopen(SN_PLUGIN_FAKE, RTLD_NOW | RTLD_LOCAL);
  EXPECT_EQ(registered_(), 3);
  dlclose(second);
  EXPECT_EQ(registered_(), 3);
  dlclose(first);
  EXPECT_EQ(registered_(), 0);
}

}  // namespace
}  // namespace sn_deploy::tensorrt::test
