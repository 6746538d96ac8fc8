// The matrix product inside a tile, and the tile transpose that its weight gradient needs.
//
// One kernel serves a dense layer's three products. Its accumulators stay in registers, and weights are read in place,
// without packing. Each element of the result is summed over the depth in order, independently of the others. So a
// row's bits depend neither on the other rows nor on its place among them, which a general matrix product does not
// guarantee.
#pragma once

#include "pushforward/tile/columns.hpp"
#include "pushforward/tile/vec.hpp"

namespace pushforward::panel {

// Accumulators are a block of kHeight packets by kColumns columns: 16 of 32 registers on AVX-512 and arm64, 8 of 16
// elsewhere. Larger blocks spill registers, and smaller ones wait for the adder (measured: 2 x 8 and 4 x 4 reach 230
// GFLOP/s, 1 x 12 reaches 167 on the same core). Low blocks keep more of a wide layer's rows in the first-level cache:
// steps of (256, 256) networks take 6 % less time with 2 x 8 than with 4 x 4.
inline constexpr int kHeight = 2;
#if defined(__AVX512F__) || defined(__aarch64__)
inline constexpr int kColumns = 8;
#else
inline constexpr int kColumns = 4;
#endif
// A block of one packet needs more columns to hide the adder's latency.
inline constexpr int kColumnsOfOne = 8;

static_assert(kLanes % Vec<float>::kWidth == 0 && kLanes % Vec<double>::kWidth == 0);

// The coefficient of depth k and column n is at data[n * column_stride + k * depth_stride].
template <class Scalar>
struct Coefficients {
  const Scalar* data;
  Index column_stride;
  Index depth_stride;
};

// The depth of a product is one stretch of `depth` columns, or several runs, which begin at these places of the left
// factor and of the coefficients. Another type may have for_each_run as Runs has.
struct Run {
  Index left, right, depth;
};

struct Runs {
  const Run *first, *last;

  template <class F>
  EIGEN_ALWAYS_INLINE void for_each_run(F&& f) const {
    for (const Run* run = first; run != last; ++run) f(run->left, run->right, run->depth);
  }
};

template <class F>
EIGEN_ALWAYS_INLINE void for_each_run(Index depth, F&& f) {
  f(Index(0), Index(0), depth);
}
template <class Depth, class F>
EIGEN_ALWAYS_INLINE void for_each_run(const Depth& depth, F&& f) {
  depth.for_each_run(f);
}

// store(n, m, sum) for each column n < Width and packet m < Height of sum = start(n) + sum_k left[k] right[n, k].
template <class Scalar, int Height, int Width, class Depth, class Start, class Store>
EIGEN_ALWAYS_INLINE void block(const Depth& depth, const Scalar* left, Index left_stride, Coefficients<Scalar> right,
                               Start start, Store store) {
  using V = Vec<Scalar>;
  V sum[Width][Height];
#pragma GCC unroll 16
  for (int n = 0; n < Width; ++n)
#pragma GCC unroll 16
    for (int m = 0; m < Height; ++m) sum[n][m] = start(n);
  for_each_run(depth, [&](Index first_left, Index first_right, Index count) __attribute__((always_inline)) {
    for (Index k = 0; k < count; ++k) {
      V x[Height];
#pragma GCC unroll 16
      for (int m = 0; m < Height; ++m) x[m] = V::load(left + first_left + k * left_stride + m * V::kWidth);
#pragma GCC unroll 16
      for (int n = 0; n < Width; ++n) {
        const V w = right.data[first_right + n * right.column_stride + k * right.depth_stride];
#pragma GCC unroll 16
        for (int m = 0; m < Height; ++m) sum[n][m] = fma(x[m], w, sum[n][m]);
      }
    }
  });
#pragma GCC unroll 16
  for (int n = 0; n < Width; ++n)
#pragma GCC unroll 16
    for (int m = 0; m < Height; ++m) store(n, m, sum[n][m]);
}

// All columns of one strip of Height packets: as many blocks of Width columns as fit, then narrower blocks.
template <class Scalar, int Height, int Width, class Depth, class Start, class Store>
EIGEN_ALWAYS_INLINE void strip(const Depth& depth, Index columns, const Scalar* left, Index left_stride,
                               Coefficients<Scalar> right, Start start, Store store) {
  Index first = 0;
  const auto run = [&](auto width) {
    constexpr int kNow = decltype(width)::value;
    for (; first + kNow <= columns; first += kNow)
      block<Scalar, Height, kNow>(
          depth, left, left_stride,
          Coefficients<Scalar>{right.data + first * right.column_stride, right.column_stride, right.depth_stride},
          [&](int n) { return start(first + n); }, [&](int n, int m, Vec<Scalar> sum) { store(first + n, m, sum); });
  };
  run(std::integral_constant<int, Width>());
  if constexpr (Width > 4) run(std::integral_constant<int, 4>());
  run(std::integral_constant<int, 2>());
  run(std::integral_constant<int, 1>());
}

// The product over a depth (see Runs) and a left factor of `height` lanes (a multiple of the packet width), its columns
// left_stride apart and aligned: store(row, column, sums) receives the sums of rows row ... row + kWidth - 1.
template <class Scalar, class Depth, class Start, class Store>
EIGEN_ALWAYS_INLINE void product(Index height, const Depth& depth, Index columns, const Scalar* left, Index left_stride,
                                 Coefficients<Scalar> right, Start start, Store store) {
  constexpr Index kWidth = Vec<Scalar>::kWidth;
  Index row = 0;
  const auto keep = [&](Index column, int m, Vec<Scalar> sum) { store(row + m * kWidth, column, sum); };
  for (; row + kHeight * kWidth <= height; row += kHeight * kWidth)
    strip<Scalar, kHeight, kColumns>(depth, columns, left + row, left_stride, right, start, keep);
  for (; row < height; row += kWidth)
    strip<Scalar, 1, kColumnsOfOne>(depth, columns, left + row, left_stride, right, start, keep);
}

// to[row * to_stride + column] = from[column][row] for rows < padded; the columns of `to` are filled up with zeros to
// whole packets.
template <class Scalar>
inline void transpose(Index padded, Index columns, Columns<const Scalar> from, Scalar* to, Index to_stride) {
  using V = Vec<Scalar>;
  for (Index column = 0; column < columns; column += V::kWidth)
    for (Index row = 0; row < padded; row += V::kWidth) {
      V square[V::kWidth];
#pragma GCC unroll 16
      for (int i = 0; i < V::kWidth; ++i) square[i] = column + i < columns ? V::load(from[column + i] + row) : V(0);
      V::transpose(square);
#pragma GCC unroll 16
      for (int i = 0; i < V::kWidth; ++i) square[i].store(to + (row + i) * to_stride + column);
    }
}

// to[column] += the sum of from[column][row] over rows < padded
template <class Scalar>
inline void add_column_sums(Index padded, Index columns, Columns<const Scalar> from, Scalar* to) {
  using V = Vec<Scalar>;
  for (Index column = 0; column < columns; column += V::kWidth) {
    V square[V::kWidth];
#pragma GCC unroll 16
    for (int i = 0; i < V::kWidth; ++i) {
      V sum = 0;
      if (column + i < columns)
        for (Index row = 0; row < padded; row += V::kWidth) sum += V::load(from[column + i] + row);
      square[i] = sum;
    }
    V::transpose(square);
    V sum = square[0];
#pragma GCC unroll 16
    for (int i = 1; i < V::kWidth; ++i) sum += square[i];
    sum.add_to(to + column, columns - column);
  }
}

}  // namespace pushforward::panel
