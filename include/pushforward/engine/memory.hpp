// The memory of one call: a workspace for each thread, the sums of a gradient, and the partial sums of its norm.
#pragma once

#include "pushforward/engine/gradient.hpp"

namespace pushforward {

// Tiles of tile_rows rows each, the last perhaps of fewer.
constexpr Index tile_count(Index rows, Index tile_rows = kTileRows) { return (rows + tile_rows - 1) / tile_rows; }
// Threads that have work.
inline int threads_for(Index tiles, int threads) { return static_cast<int>(std::clamp<Index>(tiles, 1, threads)); }

// Cut from the calling thread's arena: valid until its next call.
template <class Scalar>
class CallMemory {
 public:
  // workspace_bytes: of one thread, a multiple of the arena's alignment; parameters: of each sum.
  CallMemory(std::size_t workspace_bytes, Index parameters, int threads, Index sums)
      : workspace_bytes_(workspace_bytes),
        sum_bytes_(aligned_size(static_cast<std::size_t>(parameters) * sizeof(Scalar))) {
    const std::size_t workspaces = workspace_bytes_ * static_cast<std::size_t>(threads);
    const std::size_t all_sums = sum_bytes_ * static_cast<std::size_t>(sums);
    const auto pieces = static_cast<std::size_t>(parameter_pieces(parameters));
    start_ = Arena::of_this_thread().reserve(workspaces + all_sums + pieces * sizeof(double));
    sums_ = start_ + workspaces;
    norms_ = sums_ + all_sums;
  }

  std::byte* workspace(int thread) const { return start_ + static_cast<std::size_t>(thread) * workspace_bytes_; }
  Scalar* sum(Index i) const { return reinterpret_cast<Scalar*>(sums_ + static_cast<std::size_t>(i) * sum_bytes_); }
  // By piece of the parameters.
  double* norms() const { return reinterpret_cast<double*>(norms_); }

 private:
  std::size_t workspace_bytes_, sum_bytes_;
  std::byte *start_, *sums_, *norms_;
};

}  // namespace pushforward
