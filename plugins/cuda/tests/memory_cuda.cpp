#include <cuda_runtime_api.h>

#include "cuda/tests/memory.h"

namespace sn_deploy::cuda::test {
namespace {

cudaError_t first_error = cudaSuccess;

void keep(cudaError_t error) {
  if (first_error == cudaSuccess) first_error = error;
}

}  // namespace

const char* why_no_device() {
  int count = 0;
  const cudaError_t error = cudaGetDeviceCount(&count);
  if (error != cudaSuccess) return cudaGetErrorString(error);
  return count > 0 ? nullptr : "CUDA found none";
}

const char* device_failure() {
  keep(cudaDeviceSynchronize());
  const cudaError_t error = first_error;
  first_error = cudaSuccess;
  return error == cudaSuccess ? nullptr : cudaGetErrorString(error);
}

void* allocate(std::size_t bytes) {
  void* memory = nullptr;
  keep(cudaMalloc(&memory, bytes > 0 ? bytes : 1));
  return memory;
}

void release(void* memory) { keep(cudaFree(memory)); }
void fill(void* memory, int byte, std::size_t bytes) { keep(cudaMemset(memory, byte, bytes)); }
void copy_in(void* to, const void* from, std::size_t bytes) {
  keep(cudaMemcpy(to, from, bytes, cudaMemcpyHostToDevice));
}
void copy_out(void* to, const void* from, std::size_t bytes) {
  keep(cudaMemcpy(to, from, bytes, cudaMemcpyDeviceToHost));
}

}  // namespace sn_deploy::cuda::test
