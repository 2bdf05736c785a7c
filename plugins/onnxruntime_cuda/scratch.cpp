#include "onnxruntime_cuda/scratch.h"

#include "onnxruntime/status.h"

namespace sn_deploy::ort {

// The allocator is asked for first: it is what gives the memory back.
OrtStatus* Scratch::take(const OrtMemoryInfo* where, std::size_t bytes) {
  if (bytes == 0) return nullptr;
  SN_RETURN_IF_ERROR(api_->KernelContext_GetAllocator(context_, where, &allocator_));
  return api_->KernelContext_GetScratchBuffer(context_, where, bytes, &memory_);
}

Scratch::~Scratch() {
  if (memory_ != nullptr) allocator_->Free(allocator_, memory_);
  if (allocator_ != nullptr) api_->ReleaseAllocator(allocator_);
}

}  // namespace sn_deploy::ort
