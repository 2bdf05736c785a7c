// How a block of the GPU gets a slice into its shared memory.
#pragma once

#include "cuda/kernels/arguments.h"
#include "cuda/kernels/device_team.h"
#include "cuda/kernels/elements.h"

namespace sn_deploy::cuda {

// Copies slices to shared memory, one after the other: rows of `elements`, `pitch` apart, to `to_pitch` apart. All
// threads may read a piece of the copy, `rows_of_piece` rows, when `wait` for it returns; they have to be synchronised
// before the next `begin`. `barrier` is 8 bytes of shared memory for each piece.
//
// A slice in one piece of memory goes through the copy engine from compute capability 9.0 on, rows through asynchronous
// copies from 8.0 on, where addresses and sizes are multiples of 16 bytes: all of it is on its way at once, and in no
// thread's registers. A row each would cost the engine some 30 ns, as measured on an H200.
class DeviceTeam::Fetch {
 public:
  SN_DEVICE Fetch(const DeviceTeam& team, unsigned char* barrier) : team_(team) {
#if __CUDA_ARCH__ >= 900
    barrier_ = static_cast<unsigned>(__cvta_generic_to_shared(barrier));
    if (team_.thread() == 0) {
      for (unsigned piece = 0; piece < kPieces; ++piece) {
        asm volatile("mbarrier.init.shared::cta.b64 [%0], 1;" ::"r"(barrier_ + 8 * piece) : "memory");
      }
      asm volatile("fence.proxy.async.shared::cta;" ::: "memory");
    }
    team_.sync();
#else
    static_cast<void>(barrier);
#endif
  }

  // With kAligned all addresses and sizes are multiples of 16 bytes; without, they are looked at.
  template <bool kAligned, typename T>
  SN_DEVICE void begin(T* to, int to_pitch, const T* from, std::int64_t pitch, int rows, int elements) {
    const unsigned bytes = static_cast<unsigned>(rows * elements) * static_cast<unsigned>(sizeof(T));
    const bool one = rows <= 1 || (pitch == elements && to_pitch == elements);
    pieces_ = 1;
    rows_of_piece_ = rows;
    bulk_ = false;
    if (bytes == 0) return;  // the block has no share
#if __CUDA_ARCH__ >= 900
    // Also where the address doesn't allow the engine: else a sample's sums would go by where in the batch it lies.
    if (one && (bytes & 15) == 0) {
      // Of eight rows, whatever their size, so that all pieces begin at a multiple of 16 bytes; of some thousand bytes.
      const unsigned least_rows = 4096U / (static_cast<unsigned>(elements) * static_cast<unsigned>(sizeof(T))) + 1U;
      const unsigned eighth = (static_cast<unsigned>(rows) + kPieces - 1U) / kPieces;
      const unsigned in_piece = ((eighth > least_rows ? eighth : least_rows) + 7U) / 8U * 8U;
      rows_of_piece_ = static_cast<int>(in_piece);
      pieces_ = static_cast<int>((static_cast<unsigned>(rows) + in_piece - 1U) / in_piece);
    }
#endif
    if constexpr (!kAligned) {
      unsigned all = static_cast<unsigned>(reinterpret_cast<std::uintptr_t>(from)) | bytes;
      const auto low = static_cast<unsigned>(pitch);  // enough to tell a multiple of 16
      if (!one) all |= (static_cast<unsigned>(elements | to_pitch) | low) * static_cast<unsigned>(sizeof(T));
      if ((all & 15) != 0) return copy<1>(to, to_pitch, from, pitch, rows, elements);
    }
#if __CUDA_ARCH__ >= 900
    if (one) {
      bulk_ = true;
      const unsigned piece = static_cast<unsigned>(rows_of_piece_ * elements) * static_cast<unsigned>(sizeof(T));
      copy_bulk(reinterpret_cast<unsigned char*>(to), reinterpret_cast<const unsigned char*>(from), piece, bytes);
      return;
    }
#endif
    copy<kFullVector<T>>(to, to_pitch, from, pitch, rows, elements);
  }

  SN_DEVICE int pieces() const { return pieces_; }
  SN_DEVICE int rows_of_piece() const { return rows_of_piece_; }

  // Each piece, in their order, by all threads.
  SN_DEVICE void wait(int piece) {
#if __CUDA_ARCH__ >= 900
    if (bulk_) return wait_bulk(barrier_ + 8 * static_cast<unsigned>(piece));
#endif
    if (piece > 0) return;  // all came at once
#if __CUDA_ARCH__ >= 800
    asm volatile("cp.async.wait_all;" ::: "memory");
#endif
    team_.sync();
  }

  // Before the next `begin`.
  SN_DEVICE void end() {
#if __CUDA_ARCH__ >= 900
    if (bulk_) parities_ ^= (1U << static_cast<unsigned>(pieces_)) - 1U;
#endif
  }

 private:
  template <int V, typename T>
  SN_DEVICE void copy(T* to, int to_pitch, const T* from, std::int64_t pitch, int rows, int elements) {
    const int across = elements / V;
    const int width = across < team_.threads() ? across : team_.threads();
    const int step = team_.threads() / width;
    const int first = team_.thread() / width;
    if (first >= step) return;
    for (int column = team_.thread() % width; column < across; column += width) {
      T* into = to + (first * to_pitch + column * V);
      const T* source = from + (first * pitch + column * V);
      SN_NO_UNROLL
      for (int row = first; row < rows; row += step, into += step * to_pitch, source += step * pitch) {
        copy_one<V>(into, source);
      }
    }
  }

  template <int V, typename T>
  SN_DEVICE void copy_one(T* to, const T* from) {
#if __CUDA_ARCH__ >= 800
    if constexpr (sizeof(T) * V == 16) {
      const auto target = static_cast<unsigned>(__cvta_generic_to_shared(to));
      asm volatile("cp.async.cg.shared.global [%0], [%1], 16;" ::"r"(target), "l"(from) : "memory");
      return;
    } else if constexpr (sizeof(T) * V == 4) {
      const auto target = static_cast<unsigned>(__cvta_generic_to_shared(to));
      asm volatile("cp.async.ca.shared.global [%0], [%1], 4;" ::"r"(target), "l"(from) : "memory");
      return;
    }
#endif
    store<V>(to, load<V>(from));
  }

#if __CUDA_ARCH__ >= 900
  // By the first lanes of the first warp, a piece each.
  SN_DEVICE void copy_bulk(unsigned char* to, const unsigned char* from, unsigned piece, unsigned all) {
    const auto at = static_cast<unsigned>(team_.thread()) * piece;
    if (team_.warp() != 0 || at >= all) return;
    const unsigned size = all - at < piece ? all - at : piece;
    // The slice before may have been stored there by threads, or by their asynchronous copies, which is another proxy.
    asm volatile("fence.proxy.async.shared::cta;" ::: "memory");
    const unsigned barrier = barrier_ + 8 * static_cast<unsigned>(team_.thread());
    const auto target = static_cast<unsigned>(__cvta_generic_to_shared(to + at));
    asm volatile("mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], %1;" ::"r"(barrier), "r"(size) : "memory");
    asm volatile(
        "cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes [%0], [%1], %2, [%3];" ::"r"(target),
        "l"(from + at), "r"(size), "r"(barrier)
        : "memory");
  }

  SN_DEVICE void wait_bulk(unsigned barrier) const {
    const unsigned parity = (parities_ >> ((barrier - barrier_) / 8)) & 1U;
    unsigned done = 0;
    while (done == 0) {
      asm volatile(
          "{\n"
          ".reg .pred p;\n"
          "mbarrier.try_wait.parity.shared::cta.b64 p, [%1], %2;\n"
          "selp.u32 %0, 1, 0, p;\n"
          "}"
          : "=r"(done)
          : "r"(barrier), "r"(parity)
          : "memory");
    }
  }

  unsigned barrier_ = 0;
  unsigned parities_ = 0;  // a bit for each piece: of the phase that is waited for
#endif
  static constexpr unsigned kPieces = 8;
  int pieces_ = 1;
  int rows_of_piece_ = 0;
  bool bulk_ = false;
  const DeviceTeam& team_;
};

}  // namespace sn_deploy::cuda
