// The loop over the tiles of a call, with or without a gradient that is summed over them.
#pragma once

#include <algorithm>
#include <atomic>

#include "pushforward/engine/memory.hpp"

namespace pushforward::engine {

// The sum over tiles of derivatives by the parameters; none if they are not wanted.
template <class Scalar>
struct GradientSum {
  Scalar* data = nullptr;
  bool begins = false;  // nothing has been added yet

  // The part from `first` to `last`. The first tile clears it just before it is added to, while it is in cache.
  // Clearing the whole sum at once would push it out again.
  Scalar* part(Index first, Index last) const {
    if (!data) return nullptr;
    if (begins) std::fill_n(data + first, last - first, Scalar(0));
    return data + first;
  }
};

// Sums over the tiles of a plan what tile(index, GradientSum, memory) adds to a gradient, and what it returns. Node i
// of the plan's is written to sums + i count, its value to values[i]. An index counts from the plan's first tile.
// memory: workspace_bytes, of the thread. norm: null, or where the norm of the last node is written.
template <class Scalar, class OfTile>
void sum_over_slots(const SlotPlan& plan, std::size_t workspace_bytes, Index count, Scalar* sums, double* values,
                    double* norm, int threads, OfTile&& tile) {
  // The sum of a node's first item is the node's.
  Index begins[2 * kMostLevels], nodes = 0;
  for (Index slot = plan.first_slot(); slot < plan.last_slot(); slot = plan.end(plan.node_at(slot)))
    begins[nodes++] = slot;
  const int workers = threads_for(plan.tiles(), threads);
  const CallMemory<Scalar> memory(workspace_bytes, count, workers, std::max<Index>(plan.items() - nodes, 0));
  const auto sum_of = [&](Index item) {
    const Index slot = plan.item(item).first;
    const Index node = std::upper_bound(begins, begins + nodes, slot) - begins - 1;
    return begins[node] == slot ? sums + node * count : memory.sum(item - node - 1);
  };
  const Index first_tile = plan.first_tile(plan.first_slot());
  double of_slot[kMostGradientSlots];
  std::atomic<bool> ended{false};  // by a watch; a slot of many rows does not make it wait
  parallel_for(plan.items(), threads, [&](Index item, int thread) {
    const SlotNode node = plan.item(item);
    bool begins_sum = true;
    for (Index slot = node.first; slot <= node.first + node.level; ++slot) {  // one, or two of a pair
      double value = 0;
      for (Index index = plan.first_tile(slot); index < plan.first_tile(slot + 1); ++index) {
        if (ended.load(std::memory_order_relaxed)) return;
        try {
          Watch::look_now();
        } catch (...) {
          ended.store(true, std::memory_order_relaxed);
          throw;
        }
        const GradientSum<Scalar> sum{sum_of(item), begins_sum};
        begins_sum = false;
        value += tile(index - first_tile, sum, memory.workspace(thread));
      }
      of_slot[slot - plan.first_slot()] = value;
    }
  });
  if (plan.items() > nodes || norm) {
    const double found = add_sums(plan, count, sums, sum_of, memory.norms(), threads);
    if (norm) *norm = found;
  }
  for (Index i = 0; i < nodes; ++i) {
    const Index end = plan.end(plan.node_at(begins[i]));
    add_nodes(
        end - begins[i], 1, [&](Index slot) { return SlotNode{begins[i] + slot, 0}; },
        [&](Index slot) { return of_slot + begins[i] + slot - plan.first_slot(); }, values + i);
  }
}

// The same for all tiles of a minibatch; returns the sum of what tile returns.
template <class Scalar, class OfTile>
double sum_over_tiles(Index tiles, std::size_t workspace_bytes, Index count, Scalar* gradient, double* norm,
                      int threads, OfTile&& tile) {
  if (tiles == 0) std::fill_n(gradient, count, Scalar(0));
  const SlotPlan plan(tiles, count * static_cast<Index>(sizeof(Scalar)), threads_for(tiles, threads));
  double value = 0;
  sum_over_slots(plan, workspace_bytes, count, gradient, &value, norm, threads, tile);
  return value;
}

}  // namespace pushforward::engine
