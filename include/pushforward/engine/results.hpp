// What the engine's calls read and write.
#pragma once

#include <cstdint>

#include "pushforward/data/table.hpp"

namespace pushforward {

// Results of a pass over rows; null is not computed or not kept. NaN stands in rows whose input is not finite, or
// outside its support, where only log_prob is -infinity.
struct Results {
  Output output;               // (rows, dim), the points on the other side
  double* log_det = nullptr;   // (rows,), of the map taken
  double* log_prob = nullptr;  // (rows,), log density of the x side
  double temperature = 1;      // of the base, in that density and of points drawn
};

// The scalar that an adjoint differentiates: sum(output * points) + sum(log_det * log-determinants) over the results of
// the map, or, without them, sum over rows of weight * log p(x) / normalizer. A row of weight 0 is not there: it may
// hold any value.
struct Seeds {
  const Table* output = nullptr;    // (rows, dim)
  const double* log_det = nullptr;  // (rows,)
  const double* weights = nullptr;  // by row of the array behind the table; null: all ones
  double normalizer = 1;
  std::uint64_t dropout = 0;  // key of the units to drop, and of the noise in cells; 0 drops none
};

// Some slots of a minibatch, of whose gradient the rows of a call make the nodes of the tree (gradient.hpp).
struct SlotShare {
  Index rows = 0;             // of the minibatch
  Index first = 0, last = 0;  // the slots first, ..., last - 1
  double* values = nullptr;   // (nodes,), where the part of the scalar is written
};

// Derivatives of that scalar; null is not computed.
template <class Scalar>
struct Gradients {
  Output input;                      // (rows, dim)
  Output context;                    // (rows, context)
  Scalar* parameters = nullptr;      // (parameter_count,), written; with a share (nodes, parameter_count)
  const SlotShare* share = nullptr;  // null: the rows are a whole minibatch
  double* norm = nullptr;            // the Euclidean norm of the parameters' gradient
  double* log_prob = nullptr;        // (rows,), log p(x): not a derivative, but known by then
};

}  // namespace pushforward
