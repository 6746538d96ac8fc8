// One invertible layer of a flow, on a tile.
#pragma once

#include "pushforward/network/dropout.hpp"
#include "pushforward/tile/parameters.hpp"

namespace pushforward {

enum class Direction { forward, inverse };  // z -> x, x -> z

// The rows of one tile on their way through the flow. A matrix of a tile is stored by columns, a column holding
// kTileRows rows: element (row, column) is at [column * kTileRows + row].
template <class Scalar>
struct Tile {
  Index rows;             // rows that hold data, 1 ... kTileRows
  Index padded;           // whole_lanes(rows): what kernels process; the rows beyond hold zeros on entry
  Scalar* state;          // (kTileRows, dim), moved in place by each layer
  const Scalar* context;  // (kTileRows, context)
  double* log_det;        // (kTileRows,), each layer adds its own
  Dropout dropout = {};   // of this layer, in training
  bool keeps = false;     // what an adjoint needs, in the cache
};

// The adjoint of a tile: derivatives of one scalar, d-prefixed quantities of the derivations.
template <class Scalar>
struct TileGrad {
  Scalar* state;          // (kTileRows, dim): on entry of the layer's output, on return of its input
  Scalar* context;        // (kTileRows, context), added to; null when nobody asks
  const Scalar* log_det;  // (kTileRows,), zero in padded rows
  Scalar* parameters;     // (parameters,), each is added to once; null when nobody asks
};

template <class Scalar>
class Layer {
 public:
  virtual ~Layer() = default;

  virtual std::vector<ParameterBlock> parameters() const = 0;
  // Tile columns that a map writes for its adjoint, and that an adjoint needs besides.
  virtual Index cache_columns() const = 0;
  virtual Index scratch_columns() const = 0;

  // Moves the state in place and adds log|det| of the map just taken to log_det.
  virtual void map(Direction direction, const Scalar* parameters, const Tile<Scalar>& tile, Scalar* cache) const = 0;
  // The adjoint of that map, from the cache it wrote and may now overwrite.
  virtual void vjp(Direction direction, const Scalar* parameters, const Tile<Scalar>& tile, Scalar* cache,
                   const TileGrad<Scalar>& grad, Scalar* scratch) const = 0;

  // Whether the layer's first parameters are taken from data, and then how: from mean and standard deviation of each
  // column of the state on its x side.
  virtual bool starts_from_data() const { return false; }
  virtual void initialize(const double* /*mean*/, const double* /*deviation*/, Scalar* /*parameters*/) const {}
};

}  // namespace pushforward
