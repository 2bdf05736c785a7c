// Calls what TensorRT calls back, as it does: through the interfaces of its own headers, from a thread that Python
// doesn't know. tests/tensorrt gives it the addresses of objects that Python classes were derived for.
#include <NvInfer.h>

#include <cstdint>
#include <thread>

namespace {

template <typename Call>
void apart(Call call) {
  std::thread(call).join();
}

}  // namespace

extern "C" {

// An IOutputAllocator's answer; null where it has no memory.
void* sn_reallocate(nvinfer1::IOutputAllocator* allocator, char const* name, uint64_t size, uint64_t alignment) {
  void* memory = nullptr;
  apart([&] { memory = allocator->reallocateOutputAsync(name, nullptr, size, alignment, nullptr); });
  return memory;
}

void sn_notify_shape(nvinfer1::IOutputAllocator* allocator, char const* name, int64_t const* extents, int32_t count) {
  nvinfer1::Dims dims{};
  dims.nbDims = count;
  for (int32_t axis = 0; axis < count; ++axis) {
    dims.d[axis] = extents[axis];
  }
  apart([&] { allocator->notifyShape(name, dims); });
}

// A phase of `steps` steps within another; how many were taken before the monitor said to stop.
int32_t sn_progress(nvinfer1::IProgressMonitor* monitor, char const* name, char const* parent, int32_t steps) {
  int32_t taken = 0;
  apart([&] {
    monitor->phaseStart(name, parent, steps);
    while (taken < steps && monitor->stepComplete(name, taken)) {
      ++taken;
    }
    monitor->phaseFinish(name);
  });
  return taken;
}

void sn_profile(nvinfer1::IProfiler* profiler, char const* layer, float ms) {
  apart([&] { profiler->reportLayerTime(layer, ms); });
}

void sn_log(nvinfer1::ILogger* logger, int32_t severity, char const* message) {
  apart([&] { logger->log(static_cast<nvinfer1::ILogger::Severity>(severity), message); });
}

}  // extern "C"
