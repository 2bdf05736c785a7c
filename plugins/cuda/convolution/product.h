// A warp's share of a convolution: kTiles times 16 positions by 64 channels, as 8 products of 16 x 8 each, and what is
// made of it. Lane l has of each product the rows l / 4 and l / 4 + 8, and two neighbouring columns.
//
// The columns of the products are not the channels in their order, but so that a lane's 16 columns are twice eight
// neighbouring channels, which it stores in 16 bytes each, four lanes 64 bytes in a row: column n of product j is
// channel 32 (j / 4) + 8 (n / 2) + 2 (j % 4) + n % 2. Rows of W lie in shared memory in the order of the columns.
#pragma once

#include "cuda/convolution/arguments.h"
#include "cuda/kernels/bodies.h"

namespace sn_deploy::cuda {

inline constexpr int kColumns = 16;  // of a lane
inline constexpr int kVector = 8;    // elements in 16 bytes

template <int kTiles>
inline constexpr int kGroupRows = kTileRows * kTiles;

template <int kDepth>
inline constexpr int kRowPitch = kDepth + kRowPadding;

// Of a lane: [tile][product][row / 8 and the column's parity].
template <int kTiles>
using Products = float[kTiles][kChunk / 8][4];

// A lane's value in its column q, in row l / 4 + 8 half of a tile.
template <int kTiles>
SN_HOST_DEVICE float value_at(const Products<kTiles>& products, int tile, int half, int q) {
  return products[tile][q / 2][2 * half + q % 2];
}

// Which channel of a chunk a lane's column q is, for q = 0 and q = 8; the next seven follow.
template <typename Team>
SN_HOST_DEVICE int first_channel_of(const Team& team, int q) {
  return 4 * q + 8 * (team.lane() % 4);
}

// Where in shared memory channel c has its row of W, in its chunk's order: the inverse of the order above.
SN_HOST_DEVICE int filter_row(int channel) {
  const auto c = static_cast<unsigned>(channel);  // for divisions that are shifts
  const unsigned product = c / 32 * 4 + c % 8 / 2;
  return static_cast<int>(product * 8 + c % 32 / 8 * 2 + c % 2);
}

// X of 16 kTiles positions by W of 64 channels, both in shared memory.
template <int kDepth, int kTiles, typename T, typename Team>
SN_HOST_DEVICE void multiply(Team& team, const T* x, const T* filter, Products<kTiles>& products) {
  constexpr int kPitch = kRowPitch<kDepth>;
  constexpr int kAtOnce = 64;  // of the depth
  static_assert(kDepth % kAtOnce == 0, "whole steps");
  const int lane = team.lane();
  // A lane names one of the 32 rows of four matrices of 8 x 8. Of X: rows 0 to 15, and the same eight columns on; of
  // W: rows 0 to 7, the same eight columns on, and rows 8 to 15.
  const T* x_at = x + lane % 16 * kPitch + lane / 16 * 8;
  const T* filter_at = filter + (lane / 16 * 8 + lane % 8) * kPitch + lane / 8 % 2 * 8;
  SN_UNROLL
  for (int tile = 0; tile < kTiles; ++tile) {
    SN_UNROLL
    for (int j = 0; j < kChunk / 8; ++j) {
      SN_UNROLL
      for (int i = 0; i < 4; ++i) products[tile][j][i] = 0.0F;
    }
  }
  SN_NO_UNROLL
  for (int from = 0; from < kDepth; from += kAtOnce) {
    SN_UNROLL
    for (int k = 0; k < kAtOnce; k += 16) {
      Pair<T> left[kTiles][4];
      SN_UNROLL
      for (int tile = 0; tile < kTiles; ++tile) {
        load_matrices(team, left[tile], x_at + tile * kTileRows * kPitch + from + k);
      }
      SN_UNROLL
      for (int j = 0; j < kChunk / 8; j += 2) {
        Pair<T> right[4];
        load_matrices(team, right, filter_at + j * 8 * kPitch + from + k);
        SN_UNROLL
        for (int tile = 0; tile < kTiles; ++tile) {
          multiply_add(team, products[tile][j], left[tile], right[0], right[1]);
          multiply_add(team, products[tile][j + 1], left[tile], right[2], right[3]);
        }
      }
    }
  }
}

// Of a lane's columns: sums of values about a pivot, which is the first of the warp's values.
struct ColumnSums {
  float pivot[kColumns];
  float sum[kColumns];
  float squares[kColumns];
};

// With `first` the warp's first group, which has one row at least. Rows from `rows` on are not there.
template <int kTiles, typename Team>
SN_HOST_DEVICE void add_group(Team& team, const Products<kTiles>& products, int rows, bool first, ColumnSums& sums) {
  if (first) {
    SN_UNROLL
    for (int q = 0; q < kColumns; ++q) {
      sums.pivot[q] = shuffle(team, value_at<kTiles>(products, 0, 0, q), team.lane() % 4);
      sums.sum[q] = sums.squares[q] = 0.0F;
    }
  }
  SN_UNROLL
  for (int tile = 0; tile < kTiles; ++tile) {
    SN_UNROLL
    for (int half = 0; half < 2; ++half) {
      const bool there = tile * kTileRows + half * 8 + team.lane() / 4 < rows;
      SN_UNROLL
      for (int q = 0; q < kColumns; ++q) {
        const float apart = there ? value_at<kTiles>(products, tile, half, q) - sums.pivot[q] : 0.0F;
        sums.sum[q] += apart;
        sums.squares[q] += apart * apart;
      }
    }
  }
}

// A lane keeps the upper half of the columns, or the lower; its partner the other.
template <int kHalf, typename Team>
SN_HOST_DEVICE void halve(Team& team, int mask, ColumnSums& sums) {
  const bool upper = (team.lane() & mask) != 0;
  SN_UNROLL
  for (int i = 0; i < kHalf; ++i) {
    const float sum = upper ? sums.sum[i] : sums.sum[kHalf + i];
    const float squares = upper ? sums.squares[i] : sums.squares[kHalf + i];
    sums.sum[i] = (upper ? sums.sum[kHalf + i] : sums.sum[i]) + team.shuffle_xor(sum, mask);
    sums.squares[i] = (upper ? sums.squares[kHalf + i] : sums.squares[i]) + team.shuffle_xor(squares, mask);
    sums.pivot[i] = upper ? sums.pivot[kHalf + i] : sums.pivot[i];
  }
}

// The moments of the warp's `count` values in each of the chunk's channels: means at `into`, M2s kChunk floats behind.
template <typename Team>
SN_HOST_DEVICE void store_columns(Team& team, ColumnSums sums, int count, float* into) {
  halve<8>(team, 4, sums);
  halve<4>(team, 8, sums);
  halve<2>(team, 16, sums);
  const int lane = team.lane();
  const int q = (lane & 4) * 2 + (lane & 8) / 2 + (lane & 16) / 8;  // of the two columns that are left
  const int channel = q / 8 * 32 + lane % 4 * 8 + q % 8;
  SN_UNROLL
  for (int i = 0; i < 2; ++i) {
    const Moments<float> moments =
        moments_from_centred_sums(static_cast<float>(count), sums.pivot[i], sums.sum[i], sums.squares[i]);
    into[channel + i] = moments.mean;
    into[kChunk + channel + i] = moments.m2;
  }
}

// Where a lane's first element is in Y, or in the residual, counted from a group's first position and a chunk's first
// channel; the others are whole rows and halves of a chunk behind it.
template <typename Team>
SN_HOST_DEVICE int first_element_of(const Team& team, int pitch) {
  return team.lane() / 4 * pitch + first_channel_of(team, 0);
}
SN_HOST_DEVICE int element_of(int tile, int half, int side, int pitch) {
  return (tile * kTileRows + half * 8) * pitch + side * (kChunk / 2);
}

// Of a lane, for its rows and both halves of its columns.
template <typename T, int kTiles>
using Residuals = Vector<T, kVector>[kTiles][2][2];

// `from` is at the lane's first element.
template <int kTiles, typename T, typename Team>
SN_HOST_DEVICE void load_residuals(const Team& team, const T* from, int pitch, int rows,
                                   Residuals<T, kTiles>& residuals) {
  SN_UNROLL
  for (int tile = 0; tile < kTiles; ++tile) {
    SN_UNROLL
    for (int half = 0; half < 2; ++half) {
      const int row = tile * kTileRows + half * 8 + team.lane() / 4;
      SN_UNROLL
      for (int side = 0; side < 2; ++side) {
        if (row < rows) residuals[tile][half][side] = load<kVector>(from + element_of(tile, half, side, pitch));
      }
    }
  }
}

// `to` as `from` above; `lines` has the chunk's from `channel` on.
template <Epilogue kEpilogue, int kTiles, typename T, typename Team>
SN_HOST_DEVICE void apply_group(const Team& team, const LoadLines<T>& lines, int channel,
                                const Products<kTiles>& products, const Residuals<T, kTiles>& residuals, T* to,
                                int pitch, int rows) {
  SN_UNROLL
  for (int side = 0; side < 2; ++side) {
    Line<T> line[kVector];
    lines(channel + first_channel_of(team, 8 * side), kVector, line);
    SN_UNROLL
    for (int tile = 0; tile < kTiles; ++tile) {
      SN_UNROLL
      for (int half = 0; half < 2; ++half) {
        float values[kVector];
        SN_UNROLL
        for (int i = 0; i < kVector; ++i) {
          const float product = value_at<kTiles>(products, tile, half, kVector * side + i);
          values[i] = product * line[i].scale + line[i].shift;
          if constexpr (kEpilogue == Epilogue::kAddRelu) {
            values[i] += to_float(residuals[tile][half][side].values[i]);
          }
        }
        const int row = tile * kTileRows + half * 8 + team.lane() / 4;
        if (row < rows) {
          Vector<T, kVector> finished;
          if constexpr (kEpilogue == Epilogue::kNone) {
            finished = rounded<T>(values);
          } else {
            round_relu(team, values, finished);
          }
          store<kVector>(to + element_of(tile, half, side, pitch), finished);
        }
      }
    }
  }
}

}  // namespace sn_deploy::cuda
