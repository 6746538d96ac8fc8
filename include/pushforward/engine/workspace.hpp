// What one thread needs to take a tile through a flow and back, cut from one piece of memory.
#pragma once

#include <algorithm>

#include "pushforward/engine/stack.hpp"
#include "pushforward/threads/arena.hpp"
#include "pushforward/tile/columns.hpp"

namespace pushforward {

// Sizes in tile columns.
struct WorkspaceShape {
  Index dim;
  Index context;          // what layers read of it
  Index context_network;  // that network's cache; 0 without one
  Index cache;            // all layers' caches when an adjoint follows, else the largest
  Index scratch;          // the largest of a layer or of the context network; without an adjoint, that of a map
  Index base_scratch;     // in columns of float64
  bool adjoint;
};

template <class Scalar>
struct Workspace {
  Columns<Scalar> state, context, cache, scratch;
  Columns<double> base_scratch;
  // The context as it is read: the input of the context network, with its cache behind it, or without one what layers
  // read.
  Columns<Scalar> given_context;
  Columns<Scalar> grad_state, grad_context;  // null without an adjoint
  Scalar* grad_log_det;                      // (kTileRows,), also the derivative by each row's log p
  double *log_det, *log_prob;                // (kTileRows,)
  bool* bad;                                 // (kTileRows,), rows without a result: a value is not finite, or outside
  bool* outside;  // (kTileRows,), bad rows with every value finite, and one outside its support

  Workspace(const WorkspaceShape& shape, std::byte* memory) {
    const auto take = [&](auto*& pointer, Index count) {
      using T = std::remove_reference_t<decltype(*pointer)>;
      pointer = memory ? reinterpret_cast<T*>(memory + bytes_) : nullptr;
      bytes_ += aligned_size(static_cast<std::size_t>(count) * sizeof(T));
    };
    const auto take_columns = [&](auto& columns, Index count) {
      auto* data = columns.data();
      take(data, count * kTileRows);
      columns = std::remove_reference_t<decltype(columns)>(data);
    };
    take(log_det, kTileRows);
    take(log_prob, kTileRows);
    take(bad, kTileRows);
    take(grad_log_det, kTileRows);
    take_columns(state, shape.dim);
    take_columns(context, shape.context);
    take_columns(cache, shape.cache);
    take_columns(scratch, shape.scratch);
    take_columns(grad_state, shape.adjoint ? shape.dim : 0);
    take_columns(grad_context, shape.adjoint ? shape.context : 0);
    take(outside, kTileRows);
    take_columns(base_scratch, shape.base_scratch);
    take_columns(given_context, shape.context_network);
    if (shape.context_network == 0) given_context = context;
  }

  static std::size_t bytes(const WorkspaceShape& shape) {
    return Workspace(shape, nullptr).bytes_;  // laid out nowhere
  }

 private:
  std::size_t bytes_ = 0;
};

template <class Scalar>
WorkspaceShape workspace_shape(const Stack<Scalar>& stack, bool adjoint) {
  const auto* network = stack.context_network();
  return {stack.dim(),
          stack.embedding(),
          network ? network->cache_columns() : 0,
          adjoint ? stack.all_caches() : stack.largest_cache(),
          adjoint ? stack.scratch() : stack.map_scratch(),
          stack.base().scratch_columns(),
          adjoint};
}

}  // namespace pushforward
