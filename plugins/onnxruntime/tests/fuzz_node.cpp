// The custom op's border, for libFuzzer: any attributes, names, types, ranks and extents, any call of ONNX Runtime's
// API failing. A node answers with nothing or with a message that names it, its result has X's shape, and nothing is
// left behind. What the sanitizers find ends the run.
#include <cstdio>
#include <cstdlib>

#include "tests/fake_node.h"
#include "tests/fuzz_input.h"

namespace {

using sn_deploy::testing::Extents;
using sn_deploy::testing::FakeNode;
using sn_deploy::testing::FuzzInput;

constexpr std::int64_t kMostBytes = 1 << 16;

[[noreturn]] void wrong(const char* what, const std::string& message) {
  std::fprintf(stderr, "%s: '%s'\n", what, message.c_str());
  std::abort();
}

// As ONNX Runtime would hand it over: never a negative extent. False if there is no memory for it.
bool make_tensor(FuzzInput* input, const Extents& extents, std::int64_t element, OrtValue* tensor) {
  tensor->extents = extents;
  std::int64_t bytes = element;
  for (std::int64_t& extent : tensor->extents) {
    if (extent < 0) extent = extent == INT64_MIN ? 0 : -extent;
    if (bytes != 0 && extent > kMostBytes) bytes = extent == 0 ? 0 : kMostBytes + 1;
    if (bytes <= kMostBytes) bytes *= extent;
  }
  for (const std::int64_t extent : tensor->extents) bytes = extent == 0 ? 0 : bytes;
  if (bytes > kMostBytes) {
    tensor->data.clear();
    return false;
  }
  // Exactly so large: what is read beyond is noticed. The pattern goes on by itself.
  tensor->data.assign(static_cast<std::size_t>(bytes), 0);
  std::uint32_t state = input->take<std::uint32_t>();
  for (std::uint8_t& byte : tensor->data)
    byte = static_cast<std::uint8_t>((state = state * 1664525U + 1013904223U) >> 24U);
  return true;
}

Extents draw_extents(FuzzInput* input) {
  Extents extents(input->up_to(18));
  for (std::int64_t& extent : extents) extent = input->extent();
  return extents;
}

void spoil_attributes(FuzzInput* input, OrtKernelInfo* info) {
  if (input->coin()) info->name = input->text(255);
  for (auto& [name, value] : info->floats) {
    if (input->up_to(3) == 0) value = input->take<float>();
  }
  if (input->up_to(7) == 0) info->floats.erase(info->floats.begin());
  if (input->up_to(3) == 0) info->ints["ddof"] = input->up_to(3) == 0 ? input->take<std::int64_t>() : input->up_to(3);
  if (input->up_to(3) == 0) info->ints["block_size"] = input->take<std::int8_t>();
  if (input->up_to(31) == 0) info->ints.erase("ddof");
  if (input->up_to(31) == 0) info->ints.erase("block_size");
  if (input->up_to(15) == 0) info->strings["onnxruntime"] = input->text(80);
}

// Inputs that fit each other, or don't. False if there is no memory for one of them.
bool make_inputs(FuzzInput* input, std::int64_t element, std::vector<OrtValue>* inputs) {
  const Extents x = draw_extents(input);
  bool fits = make_tensor(input, x, element, &(*inputs)[0]);
  const std::int64_t channels = x.size() > 1 ? (*inputs)[0].extents[1] : 3;
  for (std::size_t i = 1; i < 5; ++i) {
    const Extents own = input->up_to(15) == 0 ? draw_extents(input) : Extents{channels};
    // Blocked, X's extent is rounded up.
    const bool fewer = own.size() == 1 && own[0] > 0 && input->up_to(3) == 0;
    fits &= make_tensor(input, fewer ? Extents{own[0] - 1} : own, 4, &(*inputs)[i]);
  }
  fits &= make_tensor(input, input->up_to(15) == 0 ? draw_extents(input) : x, element, &(*inputs)[5]);
  if (input->up_to(31) == 0) inputs->resize(input->up_to(6));
  return fits;
}

void infer_shape(FuzzInput* input, const FakeNode& node) {
  OrtShapeInferContext context{OrtTensorTypeAndShapeInfo{draw_extents(input)}};
  if (input->coin()) context.x.names.assign(context.x.extents.size(), input->text(3));
  sn_deploy::testing::message_of(node.fake, node.op().InferOutputShapeFn(&node.op(), &context));
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  FuzzInput input(data, size);
  const bool blocked = input.coin();
  const auto type = static_cast<sn_deploy::DataType>(blocked ? 0 : input.up_to(2));
  FakeNode node(sn_deploy::ort::providers().list[blocked ? 1 : 0], sn_deploy::testing::kNames[input.up_to(2)], type);
  if (blocked) node.info.ints["block_size"] = input.coin() ? 8 : 16;
  spoil_attributes(&input, &node.info);
  infer_shape(&input, node);
  if (!make_inputs(&input, sn_deploy::bytes_of(type), &node.context.inputs)) {
    // Then ONNX Runtime couldn't have made it, nor could it make Y.
    node.fake.api.KernelContext_GetOutput = [](OrtKernelContext*, std::size_t, const std::int64_t*, std::size_t,
                                               OrtValue**) noexcept {
      return sn_deploy::testing::make_status(ORT_FAIL, "injected");
    };
  }
  if (input.up_to(7) == 0) node.fake.failing = node.fake.calls + static_cast<int>(input.up_to(80));
  const std::string message = node.run();
  if (node.fake.alive != 0) wrong("something was left behind", message);
  if (message.empty()) {
    if (node.context.output.extents != node.context.inputs[0].extents) wrong("Y has another shape than X", message);
  } else if (message != "injected" && message.rfind("sn_deploy", 0) != 0) {
    wrong("the message doesn't name the node", message);
  }
  return 0;
}
