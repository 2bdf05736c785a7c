// refit_onnx LIBNVINFER LIBNVONNXPARSER MODEL.onnx WEIGHT…
//
// Lets TensorRT's real ONNX refitter read a file for an engine that has these weights, and prints which of them it was
// given, with how many values, as one JSON object. Needs no GPU. Exits with 0 whether it took the file or not, and with
// 2 for wrong usage.
#include <NvOnnxParser.h>
#include <dlfcn.h>
#include <stubs.h>

#include <cstdio>
#include <cstdlib>
#include <string>
#include <utility>
#include <vector>

namespace sn_deploy::tensorrt::test {
namespace {

// An engine's refitter that knows names, and notes what comes for them.
class FakeRefitter final : public nvinfer1::IRefitter, public nvinfer1::apiv::StubVRefitter {
 public:
  explicit FakeRefitter(std::vector<std::string> names) : names_(std::move(names)) { mImpl = this; }

  std::vector<std::pair<std::string, std::int64_t>> given;

 private:
  std::int32_t getAllWeights(std::int32_t size, char const** names) noexcept override {
    for (std::int32_t i = 0; i < size; ++i) names[i] = names_[static_cast<std::size_t>(i)].c_str();
    return static_cast<std::int32_t>(names_.size());
  }
  bool setNamedWeights(char const* name, nvinfer1::Weights weights) noexcept override {
    given.emplace_back(name, weights.count);
    return true;
  }
  nvinfer1::IRefitter* getPImpl() noexcept override { return this; }

  std::vector<std::string> names_;
};

class Log final : public nvinfer1::ILogger {
 public:
  std::vector<std::string> problems;

 private:
  void log(Severity severity, const char* message) noexcept override {
    if (severity <= Severity::kERROR) problems.emplace_back(message);
  }
};

std::string quoted(const std::string& text) {
  std::string result = "\"";
  for (const char c : text) {
    if (c == '"' || c == '\\') result += '\\';
    result += static_cast<unsigned char>(c) < 32 ? ' ' : c;
  }
  return result + '"';
}

template <typename Function>
Function find(void* library, const char* symbol) {
  const auto function = library == nullptr ? nullptr : reinterpret_cast<Function>(dlsym(library, symbol));
  if (function == nullptr) {
    std::fprintf(stderr, "%s\n", dlerror());
    std::exit(2);
  }
  return function;
}

int run(const std::vector<std::string>& arguments) {
  void* nvinfer = dlopen(arguments[1].c_str(), RTLD_NOW | RTLD_GLOBAL);
  find<int (*)()>(nvinfer, "getInferLibVersion");
  void* library = dlopen(arguments[2].c_str(), RTLD_NOW | RTLD_GLOBAL);
  const int version = find<int (*)()>(library, "getNvOnnxParserVersion")();
  const auto make = find<void* (*)(void*, void*, int)>(library, "createNvOnnxParserRefitter_INTERNAL");
  FakeRefitter refitter({arguments.begin() + 4, arguments.end()});
  Log log;
  auto* parser =
      static_cast<nvonnxparser::IParserRefitter*>(make(static_cast<nvinfer1::IRefitter*>(&refitter), &log, version));
  if (parser == nullptr) {
    std::fprintf(stderr, "no refitter was made\n");
    return 2;
  }
  const bool taken = parser->refitFromFile(arguments[3].c_str());
  for (int i = 0; i < parser->getNbErrors(); ++i) log.problems.emplace_back(parser->getError(i)->desc());
  std::string text = std::string("{\"taken\": ") + (taken ? "true" : "false") + ", \"errors\": [";
  for (const std::string& problem : log.problems) text += (text.back() == '[' ? "" : ", ") + quoted(problem);
  text += "], \"given\": {";
  for (const auto& [name, count] : refitter.given) {
    text += (text.back() == '{' ? "" : ", ") + quoted(name) + ": " + std::to_string(count);
  }
  std::printf("%s}}\n", text.c_str());
  return 0;
}

}  // namespace
}  // namespace sn_deploy::tensorrt::test

int main(int count, char** arguments) {
  if (count < 4) {
    std::fprintf(stderr, "usage: refit_onnx LIBNVINFER LIBNVONNXPARSER MODEL.onnx WEIGHT...\n");
    return 2;
  }
  const int status = sn_deploy::tensorrt::test::run({arguments, arguments + count});
  std::fflush(stdout);
  std::_Exit(status);  // TensorRT's own clean-up looks for a GPU
}
