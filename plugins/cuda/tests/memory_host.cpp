#include <cstring>
#include <new>

#include "cuda/tests/memory.h"

namespace sn_deploy::cuda::test {
namespace {
constexpr std::align_val_t kAlignment{256};  // a GPU's allocations have it
}

const char* why_no_device() { return nullptr; }
const char* device_failure() { return nullptr; }
void* allocate(std::size_t bytes) { return ::operator new(bytes > 0 ? bytes : 1, kAlignment); }
void release(void* memory) { ::operator delete(memory, kAlignment); }
void fill(void* memory, int byte, std::size_t bytes) { std::memset(memory, byte, bytes); }
void copy_in(void* to, const void* from, std::size_t bytes) { std::memcpy(to, from, bytes); }
void copy_out(void* to, const void* from, std::size_t bytes) { std::memcpy(to, from, bytes); }

}  // namespace sn_deploy::cuda::test
