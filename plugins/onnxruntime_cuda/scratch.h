// Memory of the provider's own for the length of a run.
#pragma once

#include <cstddef>

#include "onnxruntime/api.h"

namespace sn_deploy::ort {

// From the arena of the device that the node runs on, for work on the node's stream: given back as soon as the work is
// on the stream, it is handed to that stream's later work, which comes after it.
class Scratch {
 public:
  Scratch(const OrtApi* api, const OrtKernelContext* context) : api_(api), context_(context) {}
  ~Scratch();
  Scratch(const Scratch&) = delete;
  Scratch& operator=(const Scratch&) = delete;

  // Once. Nothing for 0 bytes.
  OrtStatus* take(const OrtMemoryInfo* where, std::size_t bytes);

  void* get() const { return memory_; }

 private:
  const OrtApi* api_;
  const OrtKernelContext* context_;
  OrtAllocator* allocator_ = nullptr;
  void* memory_ = nullptr;
};

}  // namespace sn_deploy::ort
