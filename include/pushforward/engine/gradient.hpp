// A gradient by the parameters: summed in slots, and its norm.
#pragma once

#include <cmath>

#include "pushforward/threads/arena.hpp"
#include "pushforward/threads/parallel.hpp"

namespace pushforward {

// A gradient is summed in slots: tile t goes to slot t mod slots; then slots 2 i and 2 i + 1 are added, and these pairs
// in order. So the sum is the same for any number of threads, of which no more than slots can help. Each slot costs one
// parameter vector of memory and traffic. Their number grows with the rows, so that more threads have work where there
// is more: at least four tiles share a slot beyond the least number.
inline constexpr Index kLeastGradientSlots = 8, kMostGradientSlots = 64, kTilesOfASlot = 4;
// More than the least number of slots take no more memory than this.
inline constexpr Index kMostSlotBytes = Index(256) << 20;

// parameter_bytes: of one parameter vector. The number must not depend on the threads.
constexpr Index gradient_slots(Index tiles, Index parameter_bytes) {
  Index slots = kLeastGradientSlots;
  while (slots < kMostGradientSlots && tiles >= 2 * slots * kTilesOfASlot &&
         parameter_bytes <= kMostSlotBytes / (2 * slots))
    slots *= 2;
  return slots;
}

// The items of work that a gradient is made of, each with a sum of its own. An item is one slot, or, when there are no
// more tiles than slots, a pair of neighbouring tiles that one thread adds into one sum. Every parameter is added to
// once a tile, so one sum has the bits of two, with half the traffic.
class SlotPlan {
 public:
  SlotPlan(Index tiles, Index parameter_bytes, int threads)
      : tiles_(tiles), slots_(gradient_slots(tiles, parameter_bytes)), one_each_(tiles <= slots_) {
    // As many pairs as the threads can share evenly.
    if (one_each_) pairs_ = tiles / 2 / threads * threads;
  }

  Index slots() const { return slots_; }
  Index items() const { return std::min(slots_, tiles_) - pairs_; }
  bool is_pair(Index item) const { return item < pairs_; }

  // Its tiles are first_tile, first_tile + stride, ... < end_tile.
  Index first_tile(Index item) const { return is_pair(item) ? 2 * item : item + pairs_; }
  Index end_tile(Index item) const { return one_each_ ? first_tile(item + 1) : tiles_; }
  Index stride() const { return one_each_ ? 1 : slots_; }

 private:
  Index tiles_, slots_, pairs_ = 0;
  bool one_each_;
};

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
  parallel_pieces(count, kParameterPiece, threads, [&](Index piece, Index first, Index size) {
    const SubnormalMode mode(Subnormals::zero);
    partial[piece] = square_of(first, size);
  });
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

// Adds the items' sums to the gradient, which is the first of them, and returns its norm. partial:
// (parameter_pieces(count),).
template <class Scalar, class SumOf>
double add_sums(const SlotPlan& plan, Index count, Scalar* gradient, SumOf&& sum_of, double* partial, int threads) {
  using Vector = Eigen::Array<Scalar, Eigen::Dynamic, 1>;
  return detail::norm_of_pieces(count, partial, threads, [&](Index first, Index size) {
    Eigen::Map<Vector> total(gradient + first, size);
    const auto sum = [&](Index item) { return Eigen::Map<const Vector>(sum_of(item) + first, size); };
    for (Index item = 0; item < plan.items();) {
      const bool whole = plan.is_pair(item) || item + 1 == plan.items();  // or half a pair
      if (item == 0 && !whole) total += sum(1);
      if (item > 0 && whole) total += sum(item);
      if (item > 0 && !whole) total += sum(item) + sum(item + 1);
      item += whole ? 1 : 2;
    }
    return detail::sum_of_squares(size, gradient + first);
  });
}

}  // namespace pushforward
