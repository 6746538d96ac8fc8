// The rows of one tile on their way through the flow, and their adjoint.
#pragma once

#include "pushforward/tile/columns.hpp"
#include "pushforward/tile/dropout_key.hpp"

namespace pushforward {

enum class Direction { forward, inverse };  // z -> x, x -> z

template <class Scalar>
struct Tile {
  Index rows;                     // rows that hold data, 1 ... kTileRows
  Index padded;                   // whole_lanes(rows): what kernels process; the rows beyond `rows` begin as zeros
  Columns<Scalar> state;          // (kTileRows, dim), moved in place by each layer
  Columns<const Scalar> context;  // (kTileRows, context), or what a context network makes of it
  double* log_det;                // (kTileRows,), each layer adds its own
  DropoutKey dropout = {};        // of this layer, in training
  bool keeps_cache = false;       // an adjoint follows: maps keep what it needs in the cache
  Columns<Scalar> scratch = {};   // for what a map does not keep
};

// The adjoint of a tile: derivatives of one scalar, the d-prefixed quantities of docs/derivations.md.
template <class Scalar>
struct TileGrad {
  Columns<Scalar> state;    // (kTileRows, dim): by the layer's output on entry, by its input on return
  Columns<Scalar> context;  // by the tile's context, added to; null if not wanted
  const Scalar* log_det;    // (kTileRows,), zero in padded rows
  Scalar* parameters;       // (parameters,), each is added to once; null if not wanted
};

}  // namespace pushforward
