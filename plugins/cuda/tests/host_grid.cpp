#include "cuda/tests/host_grid.h"

#include <algorithm>
#include <cstring>

#include "cuda/tests/fibers.h"

namespace sn_deploy::cuda::test {

// An arrival alone learns nothing of the others': only the last one's, and a wait. So a missing wait is seen as a race.
unsigned Barrier::arrive() {
  const unsigned phase = phase_.load(std::memory_order_acquire);
  if (arrived_.fetch_add(1, std::memory_order_release) == threads_ - 1) {
    static_cast<void>(arrived_.load(std::memory_order_acquire));
    arrived_.store(0, std::memory_order_relaxed);
    phase_.fetch_add(1, std::memory_order_release);
  }
  return phase;
}

void Barrier::wait(unsigned phase) const {
  wait_until([this, phase] { return phase_.load(std::memory_order_acquire) != phase; });
}

HostBlock::HostBlock(int threads, std::int64_t shared_bytes)
    : shared(new unsigned char[static_cast<std::size_t>(shared_bytes)]), barrier(threads) {
  std::memset(shared.get(), 0xFF, static_cast<std::size_t>(shared_bytes));
  for (int warp = 0; warp < threads / 32; ++warp) warps.push_back(std::make_unique<HostWarp>());
}

HostGroup::HostGroup(int count, int threads, std::int64_t shared_bytes) : cluster(count * threads) {
  for (int i = 0; i < count; ++i) blocks.push_back(std::make_unique<HostBlock>(threads, shared_bytes));
}

bool HostTeam::any(bool mine) {
  if (mine) own().flag.store(1, std::memory_order_relaxed);
  sync();
  const bool result = own().flag.load(std::memory_order_relaxed) != 0;
  sync();
  if (thread_ == 0) own().flag.store(0, std::memory_order_relaxed);
  sync();
  return result;
}

const float* HostTeam::peer(float* own_address, int rank) const {
  const std::ptrdiff_t offset = reinterpret_cast<unsigned char*>(own_address) - shared();
  return reinterpret_cast<const float*>(group_.blocks[static_cast<std::size_t>(rank)]->shared.get() + offset);
}

void HostTeam::meet(unsigned* counter, unsigned target) {
  sync();
  if (thread_ == 0) {
    arrive(counter);
    await(counter, target);
  }
  sync();
}

void HostTeam::await(const unsigned* counter, unsigned target) {
  wait_until([=] { return static_cast<int>(__atomic_load_n(counter, __ATOMIC_ACQUIRE) - target) >= 0; });
}

void HostTeam::Fetch::wait(int piece) {
  if (!bulk_) {
    if (piece == 0) team_.sync();
    return;
  }
  std::atomic<unsigned>& state = team_.own().fetched[piece];
  const unsigned there = turns_[piece];
  unsigned before = there - 2;
  if (state.compare_exchange_strong(before, there - 1, std::memory_order_acquire)) {
    const std::size_t begin = static_cast<std::size_t>(piece) * piece_bytes_;
    std::memcpy(to_ + begin, from_ + begin, std::min(piece_bytes_, bytes_ - begin));
    state.store(there, std::memory_order_release);
  }
  wait_until([&state, there] { return state.load(std::memory_order_acquire) == there; });
}

void run(const Launch& launch, const std::function<void(HostTeam&)>& body) {
  if (launch.zeroed_bytes > 0) {
    std::memset(launch.arguments.workspace, 0, static_cast<std::size_t>(launch.zeroed_bytes));
  }
  // A queue's blocks may run in any number; the more, the more each waits for others.
  constexpr std::int64_t kOfAQueue = 4;
  const std::int64_t together = launch.cooperative                  ? launch.grid
                                : launch.kind == KernelKind::kQueue ? std::min(kOfAQueue, launch.grid)
                                                                    : launch.cluster;
  run_grid({launch.grid, together, launch.threads, launch.shared_bytes}, body);
}

void run_grid(const Grid& grid, const std::function<void(HostTeam&)>& body) {
  for (std::int64_t first = 0; first < grid.blocks; first += grid.together) {
    const auto count = static_cast<int>(std::min(grid.together, grid.blocks - first));
    HostGroup group(count, grid.threads, grid.shared_bytes);
    run_fibers(count * grid.threads, grid.threads, [&](int i) {
      HostTeam team(group, i / grid.threads, first, grid.blocks, i % grid.threads, grid.threads);
      body(team);
    });
  }
}

}  // namespace sn_deploy::cuda::test
