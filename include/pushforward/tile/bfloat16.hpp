// Products in bfloat16, the numbers of float32 with 8 significant bits: both factors are rounded to bfloat16, and sums
// are float32 in the order of the tile instruction TDPBF16PS (Intel's manual, volume 2). An instruction multiplies 32
// columns of depth: it sums those with even numbers and those with odd ones, each from 0 on, and adds the sum of both
// to the result. The last instruction of a depth may have fewer columns.
//
// The product of two such numbers is exact in float32, so that a fused operation and two separate ones give the same
// bits. Results are therefore the same at every level of instructions.
#pragma once

#include <algorithm>
#include <cstdint>
#include <cstring>

#include "pushforward/tile/panel.hpp"

namespace pushforward::bfloat16 {

// The depth of one instruction.
inline constexpr Index kDepth = 32;

// The nearest bfloat16, ties to even; NaN stays NaN. Numbers below 2^-63 become 0, and those above 2^52 become that. So
// no product of two underflows, which would make a fused operation differ from two separate ones, and sums over 2^23
// products are finite.
inline float rounded(float value) {
  constexpr std::int32_t kInfinity = 0x7f800000, kLeast = (127 - 63) << 23, kMost = (127 + 52) << 23;
  std::uint32_t bits;
  std::memcpy(&bits, &value, sizeof bits);
  const std::uint32_t magnitude = bits & 0x7fffffffu;
  const auto size = static_cast<std::int32_t>(magnitude);  // signed numbers are faster to compare
  const std::uint32_t up = magnitude + 0x7fffu + ((magnitude >> 16) & 1u);
  std::int32_t nearest = std::min(static_cast<std::int32_t>(up & 0xffff0000u), kMost);
  nearest = size < kLeast ? 0 : nearest;
  nearest = size > kInfinity ? 0x7fc00000 : nearest;
  bits = (bits & 0x80000000u) | static_cast<std::uint32_t>(nearest);
  std::memcpy(&value, &bits, sizeof bits);
  return value;
}

template <class Scalar>
inline void round(const Scalar* from, Index count, float* to) {
  for (Index i = 0; i < count; ++i) to[i] = rounded(static_cast<float>(from[i]));
}

// Columns of float32 in the place of columns of Scalar.
template <class Scalar>
Columns<float> floats(Columns<Scalar> columns) {
  return Columns<float>(reinterpret_cast<float*>(columns.data()));
}
template <class Scalar>
Columns<const float> floats(Columns<const Scalar> columns) {
  return Columns<const float>(reinterpret_cast<const float*>(columns.data()));
}

// The depth of panel::product() that makes it a product of numbers which are rounded already, in the order above.
struct Depth {
  Index count;
};

// What panel::strip() calls for this depth, in place of panel::block(). Even columns and odd ones are summed one after
// the other, because registers do not hold the sums of both.
template <class Scalar, int Height, int Width, class Start, class Store>
EIGEN_ALWAYS_INLINE void block(const Depth& depth, const Scalar* left, Index left_stride,
                               panel::Coefficients<Scalar> right, Start start, Store store) {
  using V = Vec<Scalar>;
  V sum[Width][Height];
#pragma GCC unroll 16
  for (int n = 0; n < Width; ++n)
#pragma GCC unroll 16
    for (int m = 0; m < Height; ++m) sum[n][m] = start(n);
  for (Index first = 0; first < depth.count; first += kDepth) {
    const Index end = std::min(first + kDepth, depth.count);
    V of_parity[2][Width][Height];
#pragma GCC unroll 2
    for (int parity = 0; parity < 2; ++parity) {
      V part[Width][Height];
#pragma GCC unroll 16
      for (int n = 0; n < Width; ++n)
#pragma GCC unroll 16
        for (int m = 0; m < Height; ++m) part[n][m] = V(0);
      for (Index k = first + parity; k < end; k += 2) {
        V x[Height];
#pragma GCC unroll 16
        for (int m = 0; m < Height; ++m) x[m] = V::load(left + k * left_stride + m * V::kWidth);
#pragma GCC unroll 16
        for (int n = 0; n < Width; ++n) {
          const V w = right.data[n * right.column_stride + k * right.depth_stride];
#pragma GCC unroll 16
          for (int m = 0; m < Height; ++m) part[n][m] = fma(x[m], w, part[n][m]);
        }
      }
#pragma GCC unroll 16
      for (int n = 0; n < Width; ++n)
#pragma GCC unroll 16
        for (int m = 0; m < Height; ++m) of_parity[parity][n][m] = part[n][m];
    }
#pragma GCC unroll 16
    for (int n = 0; n < Width; ++n)
#pragma GCC unroll 16
      for (int m = 0; m < Height; ++m) sum[n][m] += of_parity[0][n][m] + of_parity[1][n][m];
  }
#pragma GCC unroll 16
  for (int n = 0; n < Width; ++n)
#pragma GCC unroll 16
    for (int m = 0; m < Height; ++m) store(n, m, sum[n][m]);
}

}  // namespace pushforward::bfloat16
