// What the TensorRT in this process offers, without linking to it.
//
// The library has to load where there is no TensorRT (to be inspected, or before it), beside a TensorRT of another
// major version, and into a process that keeps its TensorRT's symbols local. So symbols are looked up in a library that
// is loaded already, by its name with the major version this was built for.
#pragma once

#include <NvInferRuntime.h>

namespace sn_deploy::tensorrt {

// The global plugin registry, or null. That of the full TensorRT then stays loaded to the end of the process: who
// loaded it may be unloaded before this library is (Triton's backend), and the registry is asked once more then.
nvinfer1::IPluginRegistry* process_registry() noexcept;

// The major version of the TensorRT whose code is at this address, by its file's name; 0 if that tells none.
int tensorrt_at(const void* address) noexcept;

// The logger of the process's last builder or runtime, or null.
nvinfer1::ILogger* process_logger() noexcept;

}  // namespace sn_deploy::tensorrt
