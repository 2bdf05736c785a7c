#include "cuda/tests/host_grid.h"

#include <sched.h>

#include <cstring>
#include <thread>

namespace sn_deploy::cuda::test {

std::uint64_t SplitBarrier::arrive() {
  const std::lock_guard<std::mutex> lock(mutex_);
  const std::uint64_t phase = phase_;
  if (++arrived_ == threads_) {
    arrived_ = 0;
    ++phase_;
    changed_.notify_all();
  }
  return phase;
}

void SplitBarrier::wait(std::uint64_t phase) {
  std::unique_lock<std::mutex> lock(mutex_);
  changed_.wait(lock, [&] { return phase_ != phase; });
}

HostBlock::HostBlock(int threads, std::int64_t shared_bytes)
    : shared(new unsigned char[static_cast<std::size_t>(shared_bytes)]), barrier(static_cast<unsigned>(threads)) {
  std::memset(shared.get(), 0xFF, static_cast<std::size_t>(shared_bytes));
  for (int warp = 0; warp < threads / 32; ++warp) warps.push_back(std::make_unique<HostWarp>());
}

HostGroup::HostGroup(int count, int threads, std::int64_t shared_bytes) : cluster(count * threads) {
  for (int i = 0; i < count; ++i) blocks.push_back(std::make_unique<HostBlock>(threads, shared_bytes));
}

// Two buffers in turn: who reads from one has passed the barrier after which the other is written.
float HostTeam::shuffle_xor(float value, int mask) {
  HostWarp& warp = *own().warps[static_cast<std::size_t>(this->warp())];
  float* values = warp.values[turn_];
  turn_ ^= 1;
  values[lane()] = value;
  warp.barrier.wait();
  return values[lane() ^ mask];
}

const float* HostTeam::peer(float* own_address, int rank) const {
  const std::ptrdiff_t offset = reinterpret_cast<unsigned char*>(own_address) - shared();
  return reinterpret_cast<const float*>(group_.blocks[static_cast<std::size_t>(rank)]->shared.get() + offset);
}

void HostTeam::meet(unsigned* counter, unsigned target) {
  sync();
  if (thread_ == 0) {
    __atomic_fetch_add(counter, 1U, __ATOMIC_ACQ_REL);
    while (static_cast<int>(__atomic_load_n(counter, __ATOMIC_ACQUIRE) - target) < 0) sched_yield();
  }
  sync();
}

void run(const Launch& launch, const std::function<void(HostTeam&)>& body) {
  if (launch.zeroed_bytes > 0) {
    std::memset(launch.arguments.workspace, 0, static_cast<std::size_t>(launch.zeroed_bytes));
  }
  const std::int64_t together = launch.cooperative ? launch.grid : launch.cluster;
  for (std::int64_t first = 0; first < launch.grid; first += together) {
    HostGroup group(static_cast<int>(together), launch.threads, launch.shared_bytes);
    std::vector<std::thread> threads;
    for (int member = 0; member < together; ++member) {
      for (int thread = 0; thread < launch.threads; ++thread) {
        threads.emplace_back([&, member, thread] {
          HostTeam team(group, member, first, launch.grid, thread, launch.threads);
          body(team);
        });
      }
    }
    for (std::thread& thread : threads) thread.join();
  }
}

}  // namespace sn_deploy::cuda::test
