// A gradient by the parameters: summed in slots, and its norm.
#pragma once

#include <cmath>

#include "pushforward/parallel.hpp"

namespace pushforward {

// Gradients of one loss are summed in this many slots: tile t goes to slot t mod kGradientSlots, and slots are added in
// order, so that the sum is the same for any number of threads. It bounds the threads that one gradient can use; each
// slot costs one parameter vector of memory and of traffic.
inline constexpr Index kGradientSlots = 8;

// Pieces of this many parameters are the unit of threads and of the norm's partial sums, which are added in order: the
// result does not depend on the number of threads.
inline constexpr Index kParameterPiece = 8192;

constexpr Index parameter_pieces(Index count) { return (count + kParameterPiece - 1) / kParameterPiece; }

namespace detail {

// Sum of squares, in float64.
template <class Scalar>
double sum_of_squares(Index count, const Scalar* values) {
  Lanes<double> sums = Lanes<double>::Zero();
  Index i = 0;
  for (; i + kLanes <= count; i += kLanes)
    sums += Eigen::Map<const Lanes<Scalar>>(values + i).template cast<double>().square();
  for (; i < count; ++i) sums[i % kLanes] += std::pow(static_cast<double>(values[i]), 2);
  return sums.sum();
}

// The root of the sum of square_of(first, size) over all pieces. partial: (parameter_pieces(count),).
template <class SquareOf>
double norm_of_pieces(Index count, double* partial, int threads, SquareOf&& square_of) {
  parallel_pieces(count, kParameterPiece, threads,
                  [&](Index piece, Index first, Index size) { partial[piece] = square_of(first, size); });
  double sum = 0;
  for (Index piece = 0; piece < parameter_pieces(count); ++piece) sum += partial[piece];
  return std::sqrt(sum);
}

}  // namespace detail

// The Euclidean norm of a gradient.
template <class Scalar>
double norm(Index count, const Scalar* gradient, int threads) {
  const auto bytes = static_cast<std::size_t>(parameter_pieces(count)) * sizeof(double);
  auto* partial = reinterpret_cast<double*>(Arena::of_this_thread().reserve(bytes));
  return detail::norm_of_pieces(
      count, partial, threads, [&](Index first, Index size) { return detail::sum_of_squares(size, gradient + first); });
}

// Adds slot(1) ... slot(slots - 1) to the gradient, and returns its norm. partial: (parameter_pieces(count),).
template <class Scalar, class Slot>
double add_slots(Index count, Scalar* gradient, Index slots, Slot&& slot, double* partial, int threads) {
  using Vector = Eigen::Array<Scalar, Eigen::Dynamic, 1>;
  return detail::norm_of_pieces(count, partial, threads, [&](Index first, Index size) {
    Eigen::Map<Vector> total(gradient + first, size);
    for (Index i = 1; i < slots; ++i) total += Eigen::Map<const Vector>(slot(i) + first, size);
    return detail::sum_of_squares(size, gradient + first);
  });
}

}  // namespace pushforward
