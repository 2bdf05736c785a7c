// What lets one function serve the host, the device, and several instruction sets within one library.
#pragma once

// Always inlined on the host too: the CPU kernels compile these headers once for each instruction set, and the linker
// would else keep one copy of each function, perhaps the one with AVX-512 in it, for all of them.
#if defined(__CUDACC__)
#define SN_HOST_DEVICE __host__ __device__ __forceinline__
#elif defined(__GNUC__)
#define SN_HOST_DEVICE inline __attribute__((always_inline))
#else
#define SN_HOST_DEVICE inline
#endif
