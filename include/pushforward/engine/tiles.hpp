// The loop over the tiles of a call, with or without a gradient that is summed over them.
#pragma once

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

// Sums over the tiles what tile(index, GradientSum, memory) adds to a gradient (count,), which is written, and what it
// returns. memory: workspace_bytes, of the thread. norm: null, or where the gradient's norm is written.
template <class Scalar, class OfTile>
double sum_over_tiles(Index tiles, std::size_t workspace_bytes, Index count, Scalar* gradient, double* norm,
                      int threads, OfTile&& tile) {
  const int workers = threads_for(tiles, threads);
  const SlotPlan plan(tiles, count * static_cast<Index>(sizeof(Scalar)), workers);
  // The first sum is the gradient itself.
  const CallMemory<Scalar> memory(workspace_bytes, count, workers, std::max<Index>(plan.items() - 1, 0));
  const auto sum_of = [&](Index item) { return item == 0 ? gradient : memory.sum(item - 1); };
  if (tiles == 0) std::fill_n(gradient, count, Scalar(0));
  double values[kMostGradientSlots] = {};
  std::atomic<bool> ended{false};  // by a watch; a slot of many rows does not make it wait
  parallel_for(plan.items(), threads, [&](Index item, int thread) {
    const Index first = plan.first_tile(item);
    for (Index index = first; index < plan.end_tile(item); index += plan.stride()) {
      if (ended.load(std::memory_order_relaxed)) return;
      try {
        Watch::look_now();
      } catch (...) {
        ended.store(true, std::memory_order_relaxed);
        throw;
      }
      const GradientSum<Scalar> sum{sum_of(item), index == first};
      values[index % plan.slots()] += tile(index, sum, memory.workspace(thread));
    }
  });
  if (plan.items() > 1 || norm) {
    const double found = add_sums(plan, count, gradient, sum_of, memory.norms(), threads);
    if (norm) *norm = found;
  }
  double total = 0;
  for (Index slot = 0; slot < plan.slots(); ++slot) total += values[slot];
  return total;
}

}  // namespace pushforward::engine
