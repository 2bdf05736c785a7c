// The demo's digit classifier in C++, its SN layers run by the native operators:
//
//   digits digits.onnx < pixels     one line of 64 numbers, 0 to 16, an 8x8 image; one line with its digit comes back
#include <onnxruntime_cxx_api.h>
#include <sn_deploy/onnxruntime.h>

#include <algorithm>
#include <array>
#include <cstdint>
#include <exception>
#include <iostream>
#include <iterator>
#include <vector>

namespace {

constexpr std::int64_t kPixels = 64;
constexpr std::int64_t kClasses = 10;

Ort::Session open_session(Ort::Env& environment, const char* model) {
  Ort::SessionOptions options;
  options.SetIntraOpNumThreads(1);
  Ort::ThrowOnError(sn_ort_register(options, OrtGetApiBase()));
  return Ort::Session(environment, model, options);
}

// Images (N, 1, 8, 8) from 0 to 1; the class of each.
std::vector<std::int64_t> classify(Ort::Session& session, std::vector<float>& images) {
  const std::int64_t count = static_cast<std::int64_t>(images.size()) / kPixels;
  const std::array<std::int64_t, 4> shape = {count, 1, 8, 8};
  const auto memory = Ort::MemoryInfo::CreateCpu(OrtArenaAllocator, OrtMemTypeDefault);
  const Ort::Value x =
      Ort::Value::CreateTensor<float>(memory, images.data(), images.size(), shape.data(), shape.size());
  const char* const inputs[] = {"x"};
  const char* const outputs[] = {"linear"};
  const auto results = session.Run(Ort::RunOptions{}, inputs, &x, 1, outputs, 1);
  const float* logits = results[0].GetTensorData<float>();  // (N, 10)
  std::vector<std::int64_t> classes;
  for (std::int64_t i = 0; i < count; ++i, logits += kClasses) {
    classes.push_back(std::max_element(logits, logits + kClasses) - logits);
  }
  return classes;
}

}  // namespace

int main(int argc, char** argv) try {
  if (argc != 2) {
    std::cerr << "usage: digits MODEL.onnx < pixels\n";
    return 2;
  }
  std::vector<float> images{std::istream_iterator<float>(std::cin), {}};
  if (images.size() % kPixels != 0) {
    std::cerr << images.size() << " numbers; expected 64 for each image\n";
    return 2;
  }
  for (float& pixel : images) pixel /= 16.0F;
  Ort::Env environment(ORT_LOGGING_LEVEL_WARNING, "digits");
  Ort::Session session = open_session(environment, argv[1]);
  for (const std::int64_t each : classify(session, images)) std::cout << each << '\n';
  return 0;
} catch (const std::exception& error) {  // Ort::Exception is one: what was wrong, with the layer's name
  std::cerr << error.what() << '\n';
  return 1;
}
