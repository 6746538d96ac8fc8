// The matrix product inside a tile, and the tile transpose that its weight gradient needs.
//
// One kernel serves a dense layer's three products. Its accumulators stay in registers, weights are read in place
// (no packing), and every element of the result is summed over the depth in order, by itself: a row's bits depend
// neither on the other rows nor on its place among them, which a general matrix product does not promise.
// This is the only file that speaks Eigen's packet layer: Eigen's public arrays leave a 16-register block in memory.
#pragma once

#include <Eigen/Core>

#include "pushforward/tile.hpp"

namespace pushforward::panel {

namespace packets = Eigen::internal;

template <class Scalar>
using Packet = typename packets::packet_traits<Scalar>::type;

template <class Scalar>
inline constexpr int kWidth = packets::packet_traits<Scalar>::size;

// Accumulators are a block of kHeight packets by kColumns columns: 16 of 32 registers on AVX-512 and arm64, 8 of 16
// elsewhere. Larger blocks spill, smaller ones wait for the adder's latency (measured: 4 x 4 reaches 235 GFLOP/s
// and 1 x 12 167 on the same core).
#if defined(__AVX512F__) || defined(__aarch64__)
inline constexpr int kHeight = 4;
#else
inline constexpr int kHeight = 2;
#endif
inline constexpr int kColumns = 4;
// With one packet of height, columns alone must hide the latency.
inline constexpr int kColumnsOfOne = 8;

static_assert(kLanes % kWidth<float> == 0 && kLanes % kWidth<double> == 0);

// The coefficient of depth k and column n is at data[n * column_stride + k * depth_stride].
template <class Scalar>
struct Coefficients {
  const Scalar* data;
  Index column_stride;
  Index depth_stride;
};

// store(n, m, sum) for each column n < Columns and packet m < Height of sum = start(n) + sum_k left[k] right[n, k].
template <class Scalar, int Height, int Columns, class Start, class Store>
EIGEN_ALWAYS_INLINE void block(Index depth, const Scalar* left, Index left_stride, Coefficients<Scalar> right,
                               Start&& start, Store&& store) {
  Packet<Scalar> sum[Columns][Height];
#pragma GCC unroll 16
  for (int n = 0; n < Columns; ++n)
#pragma GCC unroll 16
    for (int m = 0; m < Height; ++m) sum[n][m] = packets::pset1<Packet<Scalar>>(start(n));
  for (Index k = 0; k < depth; ++k) {
    Packet<Scalar> x[Height];
#pragma GCC unroll 16
    for (int m = 0; m < Height; ++m) x[m] = packets::pload<Packet<Scalar>>(left + k * left_stride + m * kWidth<Scalar>);
#pragma GCC unroll 16
    for (int n = 0; n < Columns; ++n) {
      const auto w = packets::pset1<Packet<Scalar>>(right.data[n * right.column_stride + k * right.depth_stride]);
#pragma GCC unroll 16
      for (int m = 0; m < Height; ++m) sum[n][m] = packets::pmadd(x[m], w, sum[n][m]);
    }
  }
#pragma GCC unroll 16
  for (int n = 0; n < Columns; ++n)
#pragma GCC unroll 16
    for (int m = 0; m < Height; ++m) store(n, m, sum[n][m]);
}

// All columns of one strip of Height packets: whole blocks, then the columns that are left one width at a time.
template <class Scalar, int Height, int Columns, class Start, class Store>
EIGEN_ALWAYS_INLINE void strip(Index depth, Index columns, const Scalar* left, Index left_stride,
                               Coefficients<Scalar> right, Start&& start, Store&& store) {
  Index first = 0;
  const auto run = [&](auto width) {
    constexpr int kNow = decltype(width)::value;
    for (; first + kNow <= columns; first += kNow)
      block<Scalar, Height, kNow>(
          depth, left, left_stride,
          Coefficients<Scalar>{right.data + first * right.column_stride, right.column_stride, right.depth_stride},
          [&](int n) { return start(first + n); },
          [&](int n, int m, const Packet<Scalar>& sum) { store(first + n, m, sum); });
  };
  run(std::integral_constant<int, Columns>());
  if constexpr (Columns > 4) run(std::integral_constant<int, 4>());
  run(std::integral_constant<int, 2>());
  run(std::integral_constant<int, 1>());
}

// The product over a left factor of `height` lanes (a multiple of the packet width), its columns left_stride apart
// and aligned: store(row, column, packet) receives the sums of rows row ... row + kWidth.
template <class Scalar, class Start, class Store>
EIGEN_ALWAYS_INLINE void product(Index height, Index depth, Index columns, const Scalar* left, Index left_stride,
                                 Coefficients<Scalar> right, Start&& start, Store&& store) {
  Index row = 0;
  const auto keep = [&](Index column, int m, const Packet<Scalar>& sum) {
    store(row + m * kWidth<Scalar>, column, sum);
  };
  for (; row + kHeight * kWidth<Scalar> <= height; row += kHeight * kWidth<Scalar>)
    strip<Scalar, kHeight, kColumns>(depth, columns, left + row, left_stride, right, start, keep);
  for (; row < height; row += kWidth<Scalar>)
    strip<Scalar, 1, kColumnsOfOne>(depth, columns, left + row, left_stride, right, start, keep);
}

#pragma GCC diagnostic push
// A packet as a template argument loses its alignment attribute, which PacketBlock's member declares anew.
#pragma GCC diagnostic ignored "-Wignored-attributes"

// `to[row * to_stride + column] = from[column * kTileRows + row]` for rows < padded; columns are filled up with zeros
// to whole packets.
template <class Scalar>
inline void transpose(Index padded, Index columns, const Scalar* from, Scalar* to, Index to_stride) {
  constexpr int kSide = kWidth<Scalar>;
  if constexpr (kSide == 1) {
    for (Index row = 0; row < padded; ++row)
      for (Index column = 0; column < columns; ++column) to[row * to_stride + column] = from[column * kTileRows + row];
  } else {
    for (Index column = 0; column < columns; column += kSide)
      for (Index row = 0; row < padded; row += kSide) {
        packets::PacketBlock<Packet<Scalar>, kSide> square;
        for (int i = 0; i < kSide; ++i)
          square.packet[i] = column + i < columns
                                 ? packets::pload<Packet<Scalar>>(from + (column + i) * kTileRows + row)
                                 : packets::pset1<Packet<Scalar>>(Scalar(0));
        packets::ptranspose(square);
        for (int i = 0; i < kSide; ++i) packets::pstore(to + (row + i) * to_stride + column, square.packet[i]);
      }
  }
}

#pragma GCC diagnostic pop

// to[i] += packet[i] for the first `count` entries of a packet.
template <class Scalar>
EIGEN_ALWAYS_INLINE void add_to(Scalar* to, Index count, const Packet<Scalar>& packet) {
  if (count >= kWidth<Scalar>) {
    packets::pstoreu(to, packets::padd(packets::ploadu<Packet<Scalar>>(to), packet));
  } else {
    alignas(64) Scalar values[kWidth<Scalar>];
    packets::pstore(values, packet);
    for (Index i = 0; i < count; ++i) to[i] += values[i];
  }
}

}  // namespace pushforward::panel
