// The memory of one call: a workspace for each thread, the sums of a gradient, and the partial sums of its norm.
#pragma once

#include "pushforward/engine/engine.hpp"
#include "pushforward/engine/gradient.hpp"
#include "pushforward/engine/workspace.hpp"

namespace pushforward {

constexpr Index tile_count(Index rows) { return (rows + kTileRows - 1) / kTileRows; }
// Threads that have work.
inline int threads_for(Index tiles, int threads) { return static_cast<int>(std::clamp<Index>(tiles, 1, threads)); }

template <class Scalar>
WorkspaceShape workspace_shape(const Stack<Scalar>& stack, bool adjoint) {
  const auto* network = stack.context_network();
  return {stack.dim(),
          stack.embedding(),
          network ? network->cache_columns() : 0,
          adjoint ? stack.all_caches() : stack.largest_cache(),
          adjoint ? stack.scratch() : 0,
          stack.base().scratch_columns(),
          adjoint};
}

// Cut from the calling thread's arena: valid until its next call.
template <class Scalar>
class CallMemory {
 public:
  CallMemory(const Stack<Scalar>& stack, bool adjoint, int threads, Index sums)
      : shape_(workspace_shape(stack, adjoint)),
        workspace_bytes_(Workspace<Scalar>::bytes(shape_)),
        sum_bytes_(aligned_size(static_cast<std::size_t>(stack.parameter_count()) * sizeof(Scalar))) {
    const std::size_t workspaces = workspace_bytes_ * static_cast<std::size_t>(threads);
    const std::size_t all_sums = sum_bytes_ * static_cast<std::size_t>(sums);
    const auto pieces = static_cast<std::size_t>(parameter_pieces(stack.parameter_count()));
    start_ = Arena::of_this_thread().reserve(workspaces + all_sums + pieces * sizeof(double));
    sums_ = start_ + workspaces;
    norms_ = sums_ + all_sums;
  }

  Workspace<Scalar> workspace(int thread) const {
    return {shape_, start_ + static_cast<std::size_t>(thread) * workspace_bytes_};
  }
  Scalar* sum(Index i) const { return reinterpret_cast<Scalar*>(sums_ + static_cast<std::size_t>(i) * sum_bytes_); }
  // By piece of the parameters.
  double* norms() const { return reinterpret_cast<double*>(norms_); }

 private:
  WorkspaceShape shape_;
  std::size_t workspace_bytes_, sum_bytes_;
  std::byte *start_, *sums_, *norms_;
};

}  // namespace pushforward
