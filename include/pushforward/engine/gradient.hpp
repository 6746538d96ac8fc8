// A gradient by the parameters: summed in slots, and its norm.
#pragma once

#include <cmath>

#include "pushforward/threads/arena.hpp"
#include "pushforward/threads/parallel.hpp"

namespace pushforward {

// A gradient is the sum over the tiles of a minibatch in a binary tree, whose shape depends on the number of tiles and
// of parameters alone. Its leaves are slots: runs of neighbouring tiles, which are added in order. A node of level l
// has the slots k 2^l, ..., (k + 1) 2^l - 1, as far as there are so many, and is the sum of the two nodes below it.
// Threads and processes work on parts of the tree, so the sum has the same bits for any number of either. No more of
// them than slots can help. Each slot costs one parameter vector of memory and traffic. Their number grows with the
// rows: at least four tiles share a slot beyond the least number.
inline constexpr Index kLeastGradientSlots = 8, kMostGradientSlots = 512, kTilesOfASlot = 4;
inline constexpr int kMostLevels = 10;  // of the tree of so many slots
// More than the least number of slots take no more memory than this.
inline constexpr Index kMostSlotBytes = Index(256) << 20;

// parameter_bytes: of one parameter vector. The number must not depend on the threads or processes.
constexpr Index gradient_slots(Index tiles, Index parameter_bytes) {
  Index slots = kLeastGradientSlots;
  while (slots < kMostGradientSlots && tiles >= 2 * slots * kTilesOfASlot &&
         parameter_bytes <= kMostSlotBytes / (2 * slots))
    slots *= 2;
  return slots;
}

// A node of the tree, by its first slot.
struct SlotNode {
  Index first = 0;
  int level = 0;
};

// The items of work that some slots of a gradient are made of, each with a sum of its own. An item is one slot, or,
// when there are no more tiles than slots, a pair of neighbouring tiles that one thread adds into one sum. Every
// parameter is added to once a tile, so one sum has the bits of two, with half the traffic.
class SlotPlan {
 public:
  // Of all slots.
  SlotPlan(Index tiles, Index parameter_bytes, int threads) : SlotPlan(tiles, parameter_bytes) {
    set(0, slots_, threads);
  }
  // Of the slots first, ..., last - 1.
  SlotPlan(Index tiles, Index parameter_bytes, int threads, Index first, Index last)
      : SlotPlan(tiles, parameter_bytes) {
    set(first, last, threads);
  }

  // How many slots have tiles.
  static Index slots(Index tiles, Index parameter_bytes) {
    return std::min(gradient_slots(tiles, parameter_bytes), tiles);
  }
  // Where the tiles of a slot begin.
  static Index first_tile(Index slot, Index slots, Index tiles) { return slots ? slot * tiles / slots : 0; }

  Index slots() const { return slots_; }
  Index first_tile(Index slot) const { return first_tile(slot, slots_, tiles_); }
  Index tiles() const { return first_tile(last_) - first_tile(first_); }
  Index items() const { return last_ - first_ - pairs_; }

  // An item is a node of the tree of level 0 or 1.
  SlotNode item(Index i) const {
    if (i < lead_) return {first_ + i, 0};
    if (i < lead_ + pairs_) return {first_ + 2 * i - lead_, 1};
    return {first_ + i + pairs_, 0};
  }

  // The largest node that begins at a slot and has no others than those of the plan.
  SlotNode node_at(Index slot) const {
    SlotNode node{slot, 0};
    for (Index size = 1; slot % (2 * size) == 0; size *= 2, ++node.level)
      if (last_ == slots_ ? slot + size >= last_ : slot + 2 * size > last_) break;
    return node;
  }
  Index end(SlotNode node) const { return std::min(node.first + (Index(1) << node.level), last_); }
  Index first_slot() const { return first_; }
  Index last_slot() const { return last_; }

 private:
  SlotPlan(Index tiles, Index parameter_bytes) : tiles_(tiles), slots_(slots(tiles, parameter_bytes)) {}

  void set(Index first, Index last, int threads) {
    first_ = first;
    last_ = last;
    if (tiles_ > slots_ || first == last) return;
    lead_ = first % 2;  // half a pair
    // As many pairs as the threads can share evenly.
    pairs_ = (last - first - lead_) / 2 / threads * threads;
  }

  Index tiles_, slots_, first_ = 0, last_ = 0, lead_ = 0, pairs_ = 0;
};

// Adds terms that are nodes of the tree, and that come in order, as the tree does. term(i): (count,); node(i): which.
template <class Scalar, class Node, class Term>
void add_nodes(Index terms, Index count, Node&& node, Term&& term, Scalar* sum) {
  const SubnormalMode mode(Subnormals::zero);
  constexpr Index kBlock = 128;  // numbers that stay in registers and in the nearest cache
  using Block = Eigen::Array<Scalar, Eigen::Dynamic, 1, 0, kBlock, 1>;
  using Values = Eigen::Map<const Eigen::Array<Scalar, Eigen::Dynamic, 1>>;
  Block partial[kMostLevels + 1];
  for (Index first = 0; first < count; first += kBlock) {
    const Index size = std::min(kBlock, count - first);
    int levels[kMostLevels + 1], held = 0;
    for (Index i = 0; i < terms; ++i) {
      SlotNode at = node(i);
      const Values values(term(i) + first, size);
      const auto is_right = [&] { return held > 0 && levels[held - 1] == at.level && (at.first >> at.level) % 2 == 1; };
      if (!is_right()) {
        partial[held] = values;
        levels[held++] = at.level;
        continue;
      }
      partial[held - 1] += values;
      while (true) {
        at = {at.first - (Index(1) << at.level), at.level + 1};
        levels[--held] = at.level;
        if (!is_right()) break;
        partial[held - 1] += partial[held];
      }
      ++held;
    }
    // Nodes whose right neighbour the tree does not have.
    for (; held > 1; --held) partial[held - 2] += partial[held - 1];
    Eigen::Map<Eigen::Array<Scalar, Eigen::Dynamic, 1>>(sum + first, size) = partial[0];
  }
}

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

// Adds the sums of a plan's items up to the nodes of the tree that they make. sum_of(item): (count,); node i of the
// result is at sums + i count, and may be the sum of its first item. Returns the norm of the last node. partial:
// (parameter_pieces(count),).
template <class Scalar, class SumOf>
double add_sums(const SlotPlan& plan, Index count, Scalar* sums, SumOf&& sum_of, double* partial, int threads) {
  return detail::norm_of_pieces(count, partial, threads, [&](Index first, Index size) {
    Scalar* sum = sums + first;
    Index begin = 0;
    for (Index slot = plan.first_slot(); slot < plan.last_slot(); sum += count) {
      const Index end = plan.end(plan.node_at(slot));
      Index next = begin;
      while (next < plan.items() && plan.item(next).first < end) ++next;
      if (next - begin > 1)
        add_nodes(
            next - begin, size, [&](Index i) { return plan.item(begin + i); },
            [&](Index i) { return sum_of(begin + i) + first; }, sum);
      begin = next;
      slot = end;
    }
    return detail::sum_of_squares(size, (plan.last_slot() > plan.first_slot() ? sum - count : sum));
  });
}

}  // namespace pushforward
