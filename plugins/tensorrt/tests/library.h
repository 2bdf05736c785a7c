// A plugin library as TensorRT sees it, and stand-ins for what TensorRT gives to a plugin.
#pragma once

#include <NvInferRuntime.h>
#include <gtest/gtest.h>

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "tensorrt/tests/expressions.h"
#include "tensorrt/tests/fake_launcher.h"

namespace sn_deploy::tensorrt::test {

// Keeps what was logged.
class Finder final : public nvinfer1::ILoggerFinder {
 public:
  nvinfer1::ILogger* findLogger() override;
  // What was logged since the last call, one line a message.
  std::string take();

 private:
  class Logger final : public nvinfer1::ILogger {
   public:
    void log(Severity severity, const char* message) noexcept override;
    std::string messages;
  };
  Logger logger_;
};

// Loads a plugin library as IPluginRegistry::loadLibrary does; unloads it at the end.
class Library {
 public:
  explicit Library(const char* path);
  ~Library();
  Library(const Library&) = delete;
  Library& operator=(const Library&) = delete;

  nvinfer1::IPluginCreatorV3One& creator(const char* name);
  // Null for a library with real launchers.
  FakeLauncher* launcher();
  Finder finder;

 private:
  template <typename Function>
  Function symbol(const char* name);
  void* handle_;
};

// The attributes as fields, to be spoiled by a test.
struct Fields {
  float mean_in = 0.5F, mean_ln = 0.25F, var_in = 0.125F, var_ln = 0.75F;
  std::int32_t ddof = 1;
  std::vector<nvinfer1::PluginField> list;

  Fields();
  Fields(const Fields&) = delete;
  Fields& operator=(const Fields&) = delete;
  nvinfer1::PluginFieldCollection collection() const;
};

// A plugin with its three faces.
struct Plugin {
  explicit Plugin(nvinfer1::IPluginV3* made);
  std::unique_ptr<nvinfer1::IPluginV3> owner;
  nvinfer1::IPluginV3OneCore* core;
  nvinfer1::IPluginV3OneBuildV2* build;
  nvinfer1::IPluginV3OneRuntime* runtime;
};

Plugin make_plugin(Library& library, const char* name, std::int32_t ddof = 1);

nvinfer1::Dims dims(std::initializer_list<std::int64_t> extents);

// The tensors of a node, X first and Y last.
std::vector<nvinfer1::PluginTensorDesc> tensors_of(const char* op, std::initializer_list<std::int64_t> x,
                                                   nvinfer1::DataType type = nvinfer1::DataType::kFLOAT,
                                                   nvinfer1::TensorFormat format = nvinfer1::TensorFormat::kLINEAR);

// The same for a profile whose batch goes from 1 to `most`, with `best` as its optimum.
std::vector<nvinfer1::DynamicPluginTensorDesc> profile_of(const std::vector<nvinfer1::PluginTensorDesc>& tensors,
                                                          std::int64_t best, std::int64_t most);

}  // namespace sn_deploy::tensorrt::test
