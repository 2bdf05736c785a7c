// A block of the GPU, as the kernels' bodies see it.
#pragma once

#include <cooperative_groups.h>
#include <cuda_runtime.h>

#include <cstddef>
#include <cstdint>

#define SN_DEVICE __device__ __forceinline__

// Whether ptxas knows a fence for shared memory alone, as it does from PTX ISA 8.6 on.
#if !defined(SN_HAS_SHARED_FENCE)
#define SN_HAS_SHARED_FENCE (__CUDACC_VER_MAJOR__ * 100 + __CUDACC_VER_MINOR__ >= 1208)
#endif

namespace sn_deploy::cuda {

class DeviceTeam {
 public:
  SN_DEVICE int thread() const { return static_cast<int>(threadIdx.x); }
  SN_DEVICE int threads() const { return static_cast<int>(blockDim.x); }
  SN_DEVICE int lane() const { return thread() % 32; }
  SN_DEVICE int warp() const { return thread() / 32; }
  SN_DEVICE int warps() const { return threads() / 32; }
  SN_DEVICE std::int64_t block() const { return blockIdx.x; }
  SN_DEVICE std::int64_t blocks() const { return gridDim.x; }

  SN_DEVICE unsigned char* shared() const {
    extern __shared__ __align__(16) unsigned char sn_shared_memory[];
    return sn_shared_memory;
  }

  // What the kernels before this one in the stream stored is there behind it, and not before: a launch may begin while
  // they still run.
  SN_DEVICE void wait_for_earlier() const {
#if __CUDA_ARCH__ >= 900
    asm volatile("griddepcontrol.wait;" ::: "memory");
#endif
  }

  // Once all blocks have said so, the next kernel in the stream may begin: as far as its own `wait_for_earlier`, which
  // still waits for the end of this one.
  SN_DEVICE void let_next_begin() const {
#if __CUDA_ARCH__ >= 900
    asm volatile("griddepcontrol.launch_dependents;" ::: "memory");
#endif
  }

  SN_DEVICE void sync() const { __syncthreads(); }
  SN_DEVICE bool any(bool mine) const { return __syncthreads_or(mine) != 0; }  // of the block's threads; synchronises
  SN_DEVICE float shuffle_xor(float value, int mask) const { return __shfl_xor_sync(0xFFFFFFFFU, value, mask); }

  // A value in global memory that another block wrote since this kernel began: not from the L1 cache, which isn't
  // coherent.
  SN_DEVICE float fresh(const float* from) const { return __ldcg(from); }

  class Fetch;  // device_fetch.h

  // Blocks of one sample meet in one of two ways, and code for the other needn't be there: the planning asks for
  // clusters from compute capability 9.0 on, and for cooperative launches below.
#if __CUDA_ARCH__ >= 900
  static constexpr bool kHasClusters = true;
#else
  static constexpr bool kHasClusters = false;
#endif
  static constexpr bool kIsCooperative = !kHasClusters;

  // --- Clusters ---

  // What this thread stored in its block's shared memory before is seen by the cluster's blocks behind `cluster_wait`;
  // nothing else: the barrier's own release waits for all of the GPU's memory.
  SN_DEVICE void cluster_arrive() const {
#if __CUDA_ARCH__ >= 900 && SN_HAS_SHARED_FENCE
    asm volatile("fence.release.sync_restrict::shared::cta.cluster;" ::: "memory");
    asm volatile("barrier.cluster.arrive.relaxed.aligned;" ::: "memory");
#elif __CUDA_ARCH__ >= 900
    asm volatile("barrier.cluster.arrive.release.aligned;" ::: "memory");
#else
    __trap();
#endif
  }

  // To be waited for; stands for what was read, and not for what was stored.
  SN_DEVICE void cluster_leave() const {
#if __CUDA_ARCH__ >= 900
    asm volatile("barrier.cluster.arrive.relaxed.aligned;" ::: "memory");
#else
    __trap();
#endif
  }

  SN_DEVICE void cluster_wait() const {
#if __CUDA_ARCH__ >= 900
    cooperative_groups::this_cluster().barrier_wait();
#else
    __trap();
#endif
  }

  // The same place in the shared memory of another block of the cluster.
  SN_DEVICE const float* peer(float* own, int rank) const {
#if __CUDA_ARCH__ >= 900
    return cooperative_groups::this_cluster().map_shared_rank(own, rank);
#else
    __trap();
    return own;
#endif
  }

  // What is there.
  SN_DEVICE float of_peer(const float* from) const {
#if __CUDA_ARCH__ >= 900
    float value;
    asm volatile("ld.relaxed.cluster.f32 %0, [%1];" : "=f"(value) : "l"(from) : "memory");
    return value;
#else
    __trap();
    return *from;
#endif
  }

  // --- A barrier over some of the blocks of a cooperative launch ---

  // Waits until `counter` has reached `target`, one arrival for each block. Compared so that the counter may wrap.
  SN_DEVICE void meet(unsigned* counter, unsigned target) const {
    __syncthreads();
    if (threadIdx.x == 0) {
      arrive(counter);
      await(counter, target);
    }
    __syncthreads();
  }

  // --- Counters in global memory, by one thread of a block ---

  // What it was before this block added 1.
  SN_DEVICE unsigned take(unsigned* counter) const { return atomicAdd(counter, 1U); }

  // Adds 1, once the block's threads are synchronised: what they stored before is there for who finds it.
  // Release and acquire, since __threadfence is a fence for one order of all memory, which takes longer.
  SN_DEVICE void arrive(unsigned* counter) const {
    asm volatile("red.release.gpu.global.add.u32 [%0], 1;" ::"l"(__cvta_generic_to_global(counter)) : "memory");
  }

  // Until so many blocks have arrived. What they stored is there for all of this block, once its threads are
  // synchronised. Half a microsecond or more a poll: after a minute there is a fault, of which an error tells, and a
  // kernel that never ends doesn't.
  SN_DEVICE void await(const unsigned* counter, unsigned target) const {
    constexpr unsigned kMostPolls = 1U << 27;
    unsigned polls = 0;
    const std::size_t address = __cvta_generic_to_global(counter);
    unsigned arrived;
    while (true) {
      asm volatile("ld.acquire.gpu.global.u32 %0, [%1];" : "=r"(arrived) : "l"(address) : "memory");
      if (static_cast<int>(arrived - target) >= 0) return;
      do {  // each acquire empties the L1 cache of the multiprocessor
        if (++polls == kMostPolls) __trap();
        __nanosleep(20);
        asm volatile("ld.relaxed.gpu.global.u32 %0, [%1];" : "=r"(arrived) : "l"(address) : "memory");
      } while (static_cast<int>(arrived - target) < 0);
    }
  }
};

}  // namespace sn_deploy::cuda
