// Runs a kernel's body on the host: a fiber for each thread of the GPU, real barriers between them. The address
// sanitizer then sees every access out of bounds, and the thread sanitizer every missing barrier.
#pragma once

#include <array>
#include <atomic>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <memory>
#include <vector>

#include "cuda/kernels/elements.h"
#include "cuda/prepare.h"

namespace sn_deploy::cuda::test {

class Barrier {
 public:
  explicit Barrier(int threads) : threads_(threads) {}
  // In two steps, as clusters have: the phase that `arrive` gives is waited for to end.
  unsigned arrive();
  void wait(unsigned phase) const;

 private:
  const int threads_;
  std::atomic<int> arrived_{0};
  std::atomic<unsigned> phase_{0};
};

struct HostWarp {
  static constexpr std::size_t kMostBytes = 32;  // that a lane shows
  Barrier barrier{32};
  alignas(16) unsigned char shown[2][32][kMostBytes];
};

constexpr int kFetchPieces = 8;

struct HostBlock {
  HostBlock(int threads, std::int64_t shared_bytes);
  std::unique_ptr<unsigned char[]> shared;  // exactly as large as asked for, and full of NaN
  Barrier barrier;
  std::atomic<int> flag{0};
  std::atomic<unsigned> fetched[kFetchPieces] = {};  // 1 more when a piece is being copied, 2 when it has been
  std::vector<std::unique_ptr<HostWarp>> warps;
};

// Blocks that run at the same time: a cluster, all of a cooperative launch, some of those of a queue, or one.
struct HostGroup {
  std::vector<std::unique_ptr<HostBlock>> blocks;
  Barrier cluster;
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
  void wait_for_earlier() const {}
  void let_next_begin() const {}
  void sync() { own().barrier.wait(own().barrier.arrive()); }
  bool any(bool mine);
  float shuffle_xor(float value, int mask) { return of_warp(value)[static_cast<std::size_t>(lane() ^ mask)]; }
  // What each of the warp's lanes holds. Two buffers in turn: who reads from one has passed the barrier after which the
  // other is written.
  template <typename V>
  std::array<V, 32> of_warp(const V& mine) {
    static_assert(sizeof(V) <= HostWarp::kMostBytes);
    HostWarp& warp = *own().warps[static_cast<std::size_t>(this->warp())];
    auto& shown = warp.shown[turn_];
    turn_ ^= 1;
    std::memcpy(shown[lane()], &mine, sizeof(V));
    warp.barrier.wait(warp.barrier.arrive());
    std::array<V, 32> all;
    for (std::size_t i = 0; i < 32; ++i) std::memcpy(static_cast<void*>(&all[i]), shown[i], sizeof(V));
    return all;
  }
  static constexpr bool kHasClusters = true;
  static constexpr bool kIsCooperative = true;
  float fresh(const float* from) const { return *from; }
  float of_peer(const float* from) const { return *from; }
  void cluster_arrive() { phase_ = group_.cluster.arrive(); }
  void cluster_leave() { cluster_arrive(); }
  void cluster_wait() { group_.cluster.wait(phase_); }
  const float* peer(float* own_address, int rank) const;
  void meet(unsigned* counter, unsigned target);
  unsigned take(unsigned* counter) { return __atomic_fetch_add(counter, 1U, __ATOMIC_RELAXED); }
  void arrive(unsigned* counter) { __atomic_fetch_add(counter, 1U, __ATOMIC_RELEASE); }
  void await(const unsigned* counter, unsigned target);

  // As the GPU's (device_fetch.h). A piece that its copy engine would bring is copied when the first thread waits for
  // it: who doesn't wait finds what was there before.
  class Fetch {
   public:
    Fetch(HostTeam& team, unsigned char*) : team_(team) {}
    template <bool kAligned, typename T>
    void begin(T* to, int to_pitch, const T* from, std::int64_t pitch, int rows, int elements) {
      if (begun_) std::abort();  // the GPU's would wait for the slice before, and find it there
      begun_ = true;
      if (kAligned && rows > 0 && elements > 0) {
        for (const std::int64_t step :
             {rows > 1 ? pitch : 0, std::int64_t{rows > 1 ? to_pitch : 0}, std::int64_t{elements}}) {
          check_aligned<kFullVector<T>>(to + step);
          check_aligned<kFullVector<T>>(from + step);
        }
      }
      const bool one = rows <= 1 || (pitch == elements && to_pitch == elements);
      bytes_ = std::size_t{sizeof(T)} * static_cast<std::size_t>(rows) * static_cast<std::size_t>(elements);
      pieces_ = 1;
      rows_of_piece_ = rows;
      bulk_ = false;
      if (one && bytes_ > 0 && bytes_ % 16 == 0) {
        rows_of_piece_ = ((rows + kFetchPieces - 1) / kFetchPieces + 7) / 8 * 8;
        pieces_ = (rows + rows_of_piece_ - 1) / rows_of_piece_;
        bulk_ = reinterpret_cast<std::uintptr_t>(from) % 16 == 0;
      }
      if (bulk_) {
        piece_bytes_ = bytes_ / static_cast<std::size_t>(rows) * static_cast<std::size_t>(rows_of_piece_);
        to_ = reinterpret_cast<unsigned char*>(to);
        from_ = reinterpret_cast<const unsigned char*>(from);
        for (int piece = 0; piece < pieces_; ++piece) turns_[piece] += 2;
        return;
      }
      for (int row = 0; row < rows; ++row) {
        for (int i = team_.thread(); i < elements; i += team_.threads()) {
          to[row * to_pitch + i] = from[row * pitch + i];
        }
      }
    }
    int pieces() const { return pieces_; }
    int rows_of_piece() const { return rows_of_piece_; }
    void wait(int piece);
    void end() { begun_ = false; }

   private:
    HostTeam& team_;
    unsigned char* to_ = nullptr;
    const unsigned char* from_ = nullptr;
    std::size_t bytes_ = 0;
    std::size_t piece_bytes_ = 0;
    int pieces_ = 1;
    int rows_of_piece_ = 0;
    bool bulk_ = false;
    bool begun_ = false;
    unsigned turns_[kFetchPieces] = {};  // what a piece's state is when it is there
  };

 private:
  HostBlock& own() const { return *group_.blocks[static_cast<std::size_t>(member_)]; }
  HostGroup& group_;
  const int member_;
  const std::int64_t block_, blocks_;
  const int thread_, threads_;
  int turn_ = 0;
  unsigned phase_ = 0;
};

// Blocks of so many threads, `together` of which run at the same time.
struct Grid {
  std::int64_t blocks, together;
  int threads;
  std::int64_t shared_bytes;
};

void run_grid(const Grid& grid, const std::function<void(HostTeam&)>& body);

// Runs `body` for every thread of a launch, after zeroing what the launch wants zeroed.
void run(const Launch& launch, const std::function<void(HostTeam&)>& body);

}  // namespace sn_deploy::cuda::test
