// Memory of the device that the launchers run on: a GPU's (memory_cuda.cpp), or the host's (memory_host.cpp).
#pragma once

#include <cstddef>

namespace sn_deploy::cuda::test {

// Why nothing can run here; null where it can.
const char* why_no_device();

// What the device said went wrong in anything below since the last call; null for nothing. Waits for the device.
const char* device_failure();

void* allocate(std::size_t bytes);
void release(void* memory);
void fill(void* memory, int byte, std::size_t bytes);
void copy_in(void* to, const void* from, std::size_t bytes);
void copy_out(void* to, const void* from, std::size_t bytes);

// On the device, of exactly the bytes that were asked for, behind `shift` others.
class DeviceBuffer {
 public:
  explicit DeviceBuffer(std::size_t bytes, std::size_t shift = 0)
      : memory_(static_cast<unsigned char*>(allocate(bytes + shift))), shift_(shift) {}
  ~DeviceBuffer() { release(memory_); }
  DeviceBuffer(const DeviceBuffer&) = delete;
  DeviceBuffer& operator=(const DeviceBuffer&) = delete;
  void* get() const { return memory_ + shift_; }

 private:
  unsigned char* memory_;
  std::size_t shift_;
};

}  // namespace sn_deploy::cuda::test
