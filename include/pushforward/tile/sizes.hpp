// Sizes that every kernel shares: the rows of a tile, and the lane blocks that kernels work on.
#pragma once

#include <Eigen/Core>
#include <cstddef>

#if !EIGEN_VERSION_AT_LEAST(5, 0, 0)
#error "pushforward needs Eigen 5.0 or newer: only since then is select() vectorised"
#endif
#if defined(__FINITE_MATH_ONLY__) && __FINITE_MATH_ONLY__
#error "pushforward detects NaN: compile it without -ffast-math and -ffinite-math-only"
#endif

namespace pushforward {

using Index = std::ptrdiff_t;

// Rows go through the flow in tiles of this many. 64 rows of a (64, 64) network's activations are 16 KB in
// float32, half of a small L1 cache, and a dense layer reads each weight once per 64 rows.
inline constexpr Index kTileRows = 64;

// Elementwise kernels work on this many rows at once: one AVX-512, two AVX or four SSE registers of float32. Every
// kernel runs on whole lane blocks, without a scalar tail, so a row's bits do not depend on its place in the tile.
inline constexpr Index kLanes = 16;

template <class Scalar>
using Lanes = Eigen::Array<Scalar, kLanes, 1>;

template <class Scalar>
inline auto lanes(Scalar* at) {
  return Eigen::Map<Lanes<Scalar>, Eigen::Aligned64>(at);
}

template <class Scalar>
inline auto lanes(const Scalar* at) {
  return Eigen::Map<const Lanes<Scalar>, Eigen::Aligned64>(at);
}

// The smallest multiple of a lane block that holds `count`.
constexpr Index whole_lanes(Index count) { return (count + kLanes - 1) / kLanes * kLanes; }

}  // namespace pushforward
