// Runs a kernel's body on the host: a thread of the system for each thread of the GPU, real barriers between them. The
// address sanitizer then sees every access out of bounds, and the thread sanitizer every missing barrier.
#pragma once

#include <pthread.h>

#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <vector>

#include "cuda/prepare.h"

namespace sn_deploy::cuda::test {

class Barrier {
 public:
  explicit Barrier(unsigned threads) { pthread_barrier_init(&barrier_, nullptr, threads); }
  ~Barrier() { pthread_barrier_destroy(&barrier_); }
  Barrier(const Barrier&) = delete;
  Barrier& operator=(const Barrier&) = delete;
  void wait() { pthread_barrier_wait(&barrier_); }

 private:
  pthread_barrier_t barrier_;
};

// A barrier in two steps, as clusters have.
class SplitBarrier {
 public:
  explicit SplitBarrier(int threads) : threads_(threads) {}
  std::uint64_t arrive();
  void wait(std::uint64_t phase);

 private:
  std::mutex mutex_;
  std::condition_variable changed_;
  const int threads_;
  int arrived_ = 0;
  std::uint64_t phase_ = 0;
};

struct HostWarp {
  Barrier barrier{32};
  float values[2][32];
};

struct HostBlock {
  HostBlock(int threads, std::int64_t shared_bytes);
  std::unique_ptr<unsigned char[]> shared;  // exactly as large as asked for, and full of NaN
  Barrier barrier;
  std::vector<std::unique_ptr<HostWarp>> warps;
};

// Blocks that run at the same time: a cluster, all of a cooperative launch, or one.
struct HostGroup {
  std::vector<std::unique_ptr<HostBlock>> blocks;
  SplitBarrier cluster;
  HostGroup(int count, int threads, std::int64_t shared_bytes);
};

// One thread's view; what device_team.h is on the GPU.
class HostTeam {
 public:
  HostTeam(HostGroup& group, int member, std::int64_t first_block, std::int64_t blocks, int thread, int threads)
      : group_(group),
        member_(member),
        block_(first_block + member),
        blocks_(blocks),
        thread_(thread),
        threads_(threads) {}

  int thread() const { return thread_; }
  int threads() const { return threads_; }
  int lane() const { return thread_ % 32; }
  int warp() const { return thread_ / 32; }
  int warps() const { return threads_ / 32; }
  std::int64_t block() const { return block_; }
  std::int64_t blocks() const { return blocks_; }
  unsigned char* shared() const { return own().shared.get(); }
  void sync() { own().barrier.wait(); }
  float shuffle_xor(float value, int mask);
  float fresh(const float* from) const { return *from; }
  void cluster_arrive() { phase_ = group_.cluster.arrive(); }
  void cluster_wait() { group_.cluster.wait(phase_); }
  const float* peer(float* own_address, int rank) const;
  void meet(unsigned* counter, unsigned target);

 private:
  HostBlock& own() const { return *group_.blocks[static_cast<std::size_t>(member_)]; }
  HostGroup& group_;
  const int member_;
  const std::int64_t block_, blocks_;
  const int thread_, threads_;
  int turn_ = 0;
  std::uint64_t phase_ = 0;
};

// Runs `body` for every thread of a launch, after zeroing what the launch wants zeroed.
void run(const Launch& launch, const std::function<void(HostTeam&)>& body);

}  // namespace sn_deploy::cuda::test
