// One invertible layer of a flow, on a tile.
#pragma once

#include "pushforward/parameters.hpp"

namespace pushforward {

enum class Direction { forward, inverse };  // z -> x, x -> z

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
  // The adjoint of that map, from the cache it wrote.
  virtual void vjp(Direction direction, const Scalar* parameters, const Tile<Scalar>& tile, const Scalar* cache,
                   const TileGrad<Scalar>& grad, Scalar* scratch) const = 0;

  // Layers that take their first parameters from data are given mean and standard deviation of each feature of their
  // x side. Returns whether this is such a layer.
  virtual bool initialize(const double* /*mean*/, const double* /*deviation*/, Scalar* /*parameters*/) const {
    return false;
  }
};

}  // namespace pushforward
