// The custom-op library in a real ONNX Runtime, by many threads at once: made for the sanitizers, which must be in the
// process from its start.
//
//   stress ONNXRUNTIME.so LIBRARY.so THREADS SESSIONS SECONDS MODEL.onnx…
//
// Each model is opened SESSIONS times, with 1, 2, 3, 1, … threads of its own. For some inputs of mixed shapes, bad ones
// among them, a session of one thread says what comes out: bits, or a message. Then THREADS threads run sessions and
// inputs picked at random and compare; now and then one closes a session and opens it anew, which registers the library
// again. Exit code 0: all was as alone. 1: something wasn't. 2: it could not be run.
#include <dlfcn.h>
#include <onnxruntime_c_api.h>

#include <atomic>
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <mutex>
#include <random>
#include <shared_mutex>
#include <string>
#include <thread>
#include <vector>

namespace {

const OrtApi* api = nullptr;
OrtEnv* environment = nullptr;
const char* library = nullptr;

constexpr int kInputsOfAModel = 12;

[[noreturn]] void give_up(const std::string& what) {
  std::fprintf(stderr, "%s\n", what.c_str());
  std::exit(2);
}

// The message of a status, which is released; "" of none.
std::string message_of(OrtStatus* status) {
  if (status == nullptr) return "";
  std::string message = api->GetErrorMessage(status);
  api->ReleaseStatus(status);
  return message;
}

void expect_fine(OrtStatus* status) {
  const std::string message = message_of(status);
  if (!message.empty()) give_up(message);
}

template <typename T>
struct Released {
  void (*release)(T*);
  void operator()(T* pointer) const { release(pointer); }
};
template <typename T>
using Owned = std::unique_ptr<T, Released<T>>;

Owned<OrtSession> open_session(const std::string& model, int threads) {
  OrtSessionOptions* options = nullptr;
  expect_fine(api->CreateSessionOptions(&options));
  const Owned<OrtSessionOptions> owner(options, {api->ReleaseSessionOptions});
  expect_fine(api->SetIntraOpNumThreads(options, threads));
  // Idle threads sleep: there are more of them than processors.
  expect_fine(api->AddSessionConfigEntry(options, "session.intra_op.allow_spinning", "0"));
  expect_fine(api->RegisterCustomOpsLibrary_V2(options, library));
  OrtSession* session = nullptr;
  expect_fine(api->CreateSession(environment, model.c_str(), options, &session));
  return {session, {api->ReleaseSession}};
}

struct Tensor {
  ONNXTensorElementDataType type = ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT;
  std::vector<std::int64_t> extents;
  std::vector<std::uint8_t> data;
};

struct Signature {
  std::vector<std::string> inputs, outputs;
  std::vector<Tensor> tensors;  // of the inputs; -1 is free
};

std::string name_from(OrtStatus* status, char* name, OrtAllocator* allocator) {
  expect_fine(status);
  std::string copy = name;
  expect_fine(api->AllocatorFree(allocator, name));
  return copy;
}

Signature signature_of(OrtSession* session) {
  OrtAllocator* allocator = nullptr;
  expect_fine(api->GetAllocatorWithDefaultOptions(&allocator));
  Signature found;
  std::size_t count = 0;
  expect_fine(api->SessionGetOutputCount(session, &count));
  for (std::size_t i = 0; i < count; ++i) {
    char* name = nullptr;
    OrtStatus* status = api->SessionGetOutputName(session, i, allocator, &name);
    found.outputs.push_back(name_from(status, name, allocator));
  }
  expect_fine(api->SessionGetInputCount(session, &count));
  for (std::size_t i = 0; i < count; ++i) {
    char* name = nullptr;
    OrtStatus* status = api->SessionGetInputName(session, i, allocator, &name);
    found.inputs.push_back(name_from(status, name, allocator));
    OrtTypeInfo* type = nullptr;
    expect_fine(api->SessionGetInputTypeInfo(session, i, &type));
    const Owned<OrtTypeInfo> owner(type, {api->ReleaseTypeInfo});
    const OrtTensorTypeAndShapeInfo* info = nullptr;
    expect_fine(api->CastTypeInfoToTensorInfo(type, &info));
    Tensor tensor;
    expect_fine(api->GetTensorElementType(info, &tensor.type));
    std::size_t rank = 0;
    expect_fine(api->GetDimensionsCount(info, &rank));
    tensor.extents.resize(rank);
    expect_fine(api->GetDimensions(info, tensor.extents.data(), rank));
    found.tensors.push_back(std::move(tensor));
  }
  return found;
}

std::size_t element_bytes(ONNXTensorElementDataType type) {
  return type == ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT ? 4 : 2;
}

// An element of ordinary size.
void write_element(ONNXTensorElementDataType type, std::mt19937* random, std::uint8_t* where) {
  const auto bits = static_cast<std::uint32_t>((*random)());
  if (type == ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT16) {
    const auto half = static_cast<std::uint16_t>((bits & 0x83FFU) | ((13U + (bits >> 29U) % 5U) << 10U));
    std::memcpy(where, &half, sizeof half);
    return;
  }
  const float value = static_cast<float>(bits) * 0x1p-30F - 1.5F;
  std::uint32_t wide;
  std::memcpy(&wide, &value, sizeof wide);
  if (type == ONNX_TENSOR_ELEMENT_DATA_TYPE_BFLOAT16) {
    const auto brain = static_cast<std::uint16_t>(wide >> 16U);
    std::memcpy(where, &brain, sizeof brain);
  } else {
    std::memcpy(where, &wide, sizeof wide);
  }
}

// All inputs of one run. Free extents with the same position have the same size; one now and then is of no use.
std::vector<Tensor> make_inputs(const Signature& signature, std::mt19937* random) {
  // The largest are more than one thread is given.
  constexpr std::int64_t kExtents[] = {1, 2, 3, 7, 8, 14, 17, 28, 56, 90, 112};
  std::vector<std::int64_t> chosen = {static_cast<std::int64_t>((*random)() % 4)};  // the batch; 0 is one, too
  for (int axis = 1; axis < 8; ++axis) chosen.push_back(kExtents[(*random)() % std::size(kExtents)]);
  if ((*random)() % 16 == 0) chosen[2] = 0;
  std::vector<Tensor> made = signature.tensors;
  for (Tensor& tensor : made) {
    std::size_t count = 1;
    for (std::size_t axis = 0; axis < tensor.extents.size(); ++axis) {
      if (tensor.extents[axis] < 0) tensor.extents[axis] = chosen[axis];
      count *= static_cast<std::size_t>(tensor.extents[axis]);
    }
    const std::size_t size = element_bytes(tensor.type);
    tensor.data.resize(count * size);
    for (std::size_t i = 0; i < count; ++i) write_element(tensor.type, random, tensor.data.data() + i * size);
  }
  return made;
}

// What one run gives: the bytes of its first output, or a message.
struct Answer {
  std::string message;
  std::vector<std::uint8_t> data;
  bool operator==(const Answer& other) const { return message == other.message && data == other.data; }
};

Owned<OrtValue> value_from(const Tensor& tensor) {
  static OrtMemoryInfo* const memory = [] {
    OrtMemoryInfo* made = nullptr;
    expect_fine(api->CreateCpuMemoryInfo(OrtArenaAllocator, OrtMemTypeDefault, &made));
    return made;
  }();
  OrtValue* value = nullptr;
  // ONNX Runtime only reads it.
  expect_fine(api->CreateTensorWithDataAsOrtValue(memory, const_cast<std::uint8_t*>(tensor.data.data()),
                                                  tensor.data.size(), tensor.extents.data(), tensor.extents.size(),
                                                  tensor.type, &value));
  return {value, {api->ReleaseValue}};
}

Answer run(OrtSession* session, const Signature& signature, const std::vector<Tensor>& inputs) {
  std::vector<Owned<OrtValue>> values;
  std::vector<const OrtValue*> pointers;
  std::vector<const char*> names;
  for (std::size_t i = 0; i < inputs.size(); ++i) {
    values.push_back(value_from(inputs[i]));
    pointers.push_back(values.back().get());
    names.push_back(signature.inputs[i].c_str());
  }
  const char* output = signature.outputs[0].c_str();
  OrtValue* result = nullptr;
  Answer answer;
  answer.message =
      message_of(api->Run(session, nullptr, names.data(), pointers.data(), pointers.size(), &output, 1, &result));
  if (result == nullptr) return answer;
  const Owned<OrtValue> owner(result, {api->ReleaseValue});
  OrtTensorTypeAndShapeInfo* info = nullptr;
  expect_fine(api->GetTensorTypeAndShape(result, &info));
  const Owned<OrtTensorTypeAndShapeInfo> info_owner(info, {api->ReleaseTensorTypeAndShapeInfo});
  std::size_t count = 0;
  expect_fine(api->GetTensorShapeElementCount(info, &count));
  ONNXTensorElementDataType type;
  expect_fine(api->GetTensorElementType(info, &type));
  void* data = nullptr;
  expect_fine(api->GetTensorMutableData(result, &data));
  const auto* bytes = static_cast<const std::uint8_t*>(data);
  answer.data.assign(bytes, bytes + count * element_bytes(type));
  return answer;
}

struct Opened {
  std::shared_mutex guard;  // of closing and opening anew
  Owned<OrtSession> session{nullptr, {nullptr}};
  int threads = 1;
};

struct Model {
  std::string path;
  Signature signature;
  std::vector<std::vector<Tensor>> inputs;
  std::vector<Answer> expected;
  std::vector<std::unique_ptr<Opened>> sessions;
};

std::unique_ptr<Model> prepare(const std::string& path, int sessions, std::mt19937* random) {
  auto model = std::make_unique<Model>();
  model->path = path;
  const Owned<OrtSession> alone = open_session(path, 1);
  model->signature = signature_of(alone.get());
  for (int i = 0; i < kInputsOfAModel; ++i) {
    model->inputs.push_back(make_inputs(model->signature, random));
    model->expected.push_back(run(alone.get(), model->signature, model->inputs.back()));
  }
  for (int i = 0; i < sessions; ++i) {
    auto opened = std::make_unique<Opened>();
    opened->threads = 1 + i % 3;
    opened->session = open_session(path, opened->threads);
    model->sessions.push_back(std::move(opened));
  }
  return model;
}

struct Counts {
  std::atomic<long> runs{0}, refusals{0}, reopened{0}, wrong{0};
};

void work(const std::vector<std::unique_ptr<Model>>& models, unsigned seed,
          std::chrono::steady_clock::time_point deadline, Counts* counts) {
  std::mt19937 random(seed);
  while (std::chrono::steady_clock::now() < deadline && counts->wrong == 0) {
    const Model& model = *models[random() % models.size()];
    Opened& opened = *model.sessions[random() % model.sessions.size()];
    if (random() % 64 == 0) {
      const std::unique_lock<std::shared_mutex> lock(opened.guard);
      opened.session.reset();
      opened.session = open_session(model.path, opened.threads);
      ++counts->reopened;
    }
    const std::size_t index = random() % model.inputs.size();
    const std::shared_lock<std::shared_mutex> lock(opened.guard);
    const Answer answer = run(opened.session.get(), model.signature, model.inputs[index]);
    ++counts->runs;
    if (!answer.message.empty()) ++counts->refusals;
    if (answer == model.expected[index]) continue;
    ++counts->wrong;
    std::fprintf(stderr, "%s, input %zu: not what it is alone; %s\n", model.path.c_str(), index,
                 answer.message.c_str());
  }
}

}  // namespace

int main(int argc, char** argv) {
  if (argc < 7) give_up("usage: stress ONNXRUNTIME.so LIBRARY.so THREADS SESSIONS SECONDS MODEL.onnx…");
  void* runtime = dlopen(argv[1], RTLD_NOW | RTLD_LOCAL);
  if (runtime == nullptr) give_up(dlerror());
  const auto base = reinterpret_cast<const OrtApiBase* (*)()>(dlsym(runtime, "OrtGetApiBase"));
  if (base == nullptr) give_up(std::string(argv[1]) + ": no ONNX Runtime");
  api = base()->GetApi(18);
  if (api == nullptr) give_up("ONNX Runtime 1.18 or later is needed");
  library = argv[2];
  const int threads = std::atoi(argv[3]);
  const int sessions = std::atoi(argv[4]);
  const double seconds = std::atof(argv[5]);
  if (threads < 1 || sessions < 1 || !(seconds > 0)) give_up("THREADS, SESSIONS and SECONDS must be above 0");
  expect_fine(api->CreateEnv(ORT_LOGGING_LEVEL_FATAL, "stress", &environment));

  std::mt19937 random(1);
  std::vector<std::unique_ptr<Model>> models;
  for (int i = 6; i < argc; ++i) models.push_back(prepare(argv[i], sessions, &random));
  Counts counts;
  const auto deadline =
      std::chrono::steady_clock::now() +
      std::chrono::duration_cast<std::chrono::steady_clock::duration>(std::chrono::duration<double>(seconds));
  std::vector<std::thread> workers;
  for (int i = 0; i < threads; ++i) {
    workers.emplace_back([&, i] { work(models, 100U + static_cast<unsigned>(i), deadline, &counts); });
  }
  for (std::thread& worker : workers) worker.join();
  models.clear();
  api->ReleaseEnv(environment);
  std::printf(
      "%ld runs by %d threads in %d sessions of each of %d files, %ld of them refused, %ld sessions opened anew, "
      "%ld wrong\n",
      counts.runs.load(), threads, sessions, argc - 6, counts.refusals.load(), counts.reopened.load(),
      counts.wrong.load());
  return counts.wrong == 0 ? 0 : 1;
}
