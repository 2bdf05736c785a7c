// parse_onnx LIBNVINFER LIBNVONNXPARSER PLUGIN|- MODEL.onnx
//
// Lets TensorRT's real ONNX parser read a file, with or without the plugin library, and prints what became of it as one
// JSON object. Needs no GPU. Exits with 0 whether the file parsed or not, and with 2 for wrong usage.
#include <NvOnnxParser.h>
#include <dlfcn.h>

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <iterator>
#include <sstream>

#include "fake_network.h"

namespace sn_deploy::tensorrt::test {
namespace {

using nvinfer1::DataType;
using nvinfer1::PluginCapabilityType;

std::string quoted(const std::string& text) {
  std::string result = "\"";
  for (const char c : text) {
    if (c == '"' || c == '\\') {
      result += '\\';
      result += c;
    } else {
      result += static_cast<unsigned char>(c) < 32 ? ' ' : c;
    }
  }
  return result + '"';
}

template <typename Items, typename Text>
std::string list(const Items& items, Text text) {
  std::string result = "[";
  for (const auto& item : items) result += (result.size() > 1 ? ", " : "") + text(item);
  return result + "]";
}

const char* name_of(DataType type) {
  switch (type) {
    case DataType::kFLOAT:
      return "float32";
    case DataType::kHALF:
      return "float16";
    case DataType::kBF16:
      return "bfloat16";
    case DataType::kINT8:
      return "int8";
    case DataType::kFP8:
      return "float8";
    case DataType::kINT64:
      return "int64";
    case DataType::kBOOL:
      return "bool";
    default:
      return "other";
  }
}

std::string tensor_text(const nvinfer1::ITensor* tensor) {
  const nvinfer1::Dims dims = tensor->getDimensions();
  const std::vector<std::int64_t> extents(dims.d, dims.d + dims.nbDims);
  return "{\"type\": " + quoted(name_of(tensor->getType())) +
         ", \"shape\": " + list(extents, [](std::int64_t extent) { return std::to_string(extent); }) + "}";
}

std::string field_text(const nvinfer1::PluginField& field) {
  std::ostringstream value;
  value.precision(9);
  if (field.type == nvinfer1::PluginFieldType::kFLOAT32) {
    value << *static_cast<const float*>(field.data);
  } else {
    value << *static_cast<const std::int32_t*>(field.data);
  }
  return quoted(field.name) + ": " + value.str();
}

std::string plugin_text(FakePluginLayer* added) {
  nvinfer1::IPluginV3& plugin = added->getPlugin();
  auto* core = static_cast<nvinfer1::IPluginV3OneCore*>(plugin.getCapabilityInterface(PluginCapabilityType::kCORE));
  auto* runtime =
      static_cast<nvinfer1::IPluginV3OneRuntime*>(plugin.getCapabilityInterface(PluginCapabilityType::kRUNTIME));
  const nvinfer1::PluginFieldCollection* fields = runtime->getFieldsToSerialize();
  const std::vector<nvinfer1::PluginField> values(fields->fields, fields->fields + fields->nbFields);
  std::string attributes = list(values, field_text);
  attributes.front() = '{';
  attributes.back() = '}';
  return "{\"op\": " + quoted(core->getPluginName()) + ", \"namespace\": " + quoted(core->getPluginNamespace()) +
         ", \"version\": " + quoted(core->getPluginVersion()) + ", \"name\": " + quoted(added->layer.name) +
         ", \"inputs\": " + list(added->layer.inputs, tensor_text) +
         ", \"output\": " + tensor_text(added->layer.outputs[0]) + ", \"fields\": " + attributes + "}";
}

// Of a layer of TensorRT's own: its kind, what it reads and gives, and along which axis it has its scales.
std::string layer_text(nvinfer1::ILayer* layer) {
  std::string kind = "other";
  std::int32_t axis = -1;
  switch (layer->getType()) {
    case nvinfer1::LayerType::kCONVOLUTION:
      kind = "convolution";
      break;
    case nvinfer1::LayerType::kQUANTIZE:
      kind = "quantize";
      axis = static_cast<nvinfer1::IQuantizeLayer*>(layer)->getAxis();
      break;
    case nvinfer1::LayerType::kDEQUANTIZE:
      kind = "dequantize";
      axis = static_cast<nvinfer1::IDequantizeLayer*>(layer)->getAxis();
      break;
    case nvinfer1::LayerType::kCONSTANT:
      kind = "constant";
      break;
    case nvinfer1::LayerType::kCAST:
      kind = "cast";
      break;
    case nvinfer1::LayerType::kPLUGIN_V3:
      kind = "plugin";
      break;
    case nvinfer1::LayerType::kELEMENTWISE:
      kind = "elementwise";
      break;
    case nvinfer1::LayerType::kFILL:
      kind = "fill";
      break;
    case nvinfer1::LayerType::kMATRIX_MULTIPLY:
      kind = "matmul";
      break;
    case nvinfer1::LayerType::kREDUCE:
      kind = "reduce";
      break;
    case nvinfer1::LayerType::kSHAPE:
      kind = "shape";
      break;
    default:
      break;
  }
  std::vector<const nvinfer1::ITensor*> inputs;
  for (std::int32_t i = 0; i < layer->getNbInputs(); ++i) {
    if (layer->getInput(i) != nullptr) inputs.push_back(layer->getInput(i));
  }
  return "{\"kind\": " + quoted(kind) + ", \"axis\": " + std::to_string(axis) +
         ", \"inputs\": " + list(inputs, tensor_text) + ", \"output\": " + tensor_text(layer->getOutput(0)) + "}";
}

class Log final : public nvinfer1::ILogger {
 public:
  std::vector<std::string> problems;

 private:
  void log(Severity severity, const char* message) noexcept override {
    if (severity <= Severity::kWARNING) problems.emplace_back(message);
    if (std::getenv("SN_TRACE_STUBS") != nullptr) std::fprintf(stderr, "%s\n", message);
  }
};

template <typename Function>
Function find(void* library, const char* symbol) {
  const auto function = reinterpret_cast<Function>(dlsym(library, symbol));
  if (function == nullptr) {
    std::fprintf(stderr, "%s\n", dlerror());
    std::exit(2);
  }
  return function;
}

void* open(const char* path) {
  void* library = dlopen(path, RTLD_NOW | RTLD_GLOBAL);
  if (library == nullptr) {
    std::fprintf(stderr, "%s\n", dlerror());
    std::exit(2);
  }
  return library;
}

int run(char** arguments) {
  void* nvinfer = open(arguments[1]);
  void* parser_library = open(arguments[2]);
  nvinfer1::IPluginRegistry* registry = find<nvinfer1::IPluginRegistry* (*)()>(nvinfer, "getPluginRegistry")();
  const bool with_plugin = std::strcmp(arguments[3], "-") != 0;
  if (with_plugin && registry->loadLibrary(arguments[3]) == nullptr) {
    std::fprintf(stderr, "%s: TensorRT did not take the plugin library\n", arguments[3]);
    return 2;
  }
  std::ifstream file(arguments[4], std::ios::binary);
  const std::string bytes((std::istreambuf_iterator<char>(file)), {});
  FakeNetwork network(*registry);
  Log log;
  const int version = find<int (*)()>(parser_library, "getNvOnnxParserVersion")();
  const auto make = find<void* (*)(void*, void*, int)>(parser_library, "createNvOnnxParser_INTERNAL");
  auto* parser = static_cast<nvonnxparser::IParser*>(make(&network, &log, version));
  if (parser == nullptr) {
    std::fprintf(stderr, "no parser was made\n");
    return 2;
  }
  const bool parsed = parser->parse(bytes.data(), bytes.size());
  std::vector<std::string> errors = log.problems;
  for (int i = 0; i < parser->getNbErrors(); ++i) errors.emplace_back(parser->getError(i)->desc());
  std::printf(
      "{\"version\": %d, \"parsed\": %s, \"errors\": %s, \"layers\": %zu, \"inputs\": %s, \"outputs\": %s, "
      "\"plugins\": %s, \"all\": %s}\n",
      find<int (*)()>(nvinfer, "getInferLibVersion")(), parsed ? "true" : "false", list(errors, quoted).c_str(),
      network.layers.size(), list(network.inputs, tensor_text).c_str(), list(network.outputs, tensor_text).c_str(),
      list(network.plugins, plugin_text).c_str(), list(network.layers, layer_text).c_str());
  return 0;
}

}  // namespace
}  // namespace sn_deploy::tensorrt::test

int main(int count, char** arguments) {
  if (count != 5) {
    std::fprintf(stderr, "usage: parse_onnx LIBNVINFER LIBNVONNXPARSER PLUGIN|- MODEL.onnx\n");
    return 2;
  }
  const int status = sn_deploy::tensorrt::test::run(arguments);
  std::fflush(stdout);
  std::_Exit(status);  // TensorRT's own clean-up looks for a GPU
}
