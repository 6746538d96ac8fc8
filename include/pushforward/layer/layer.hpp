// One invertible layer of a flow, on a tile.
#pragma once

#include "pushforward/tile/parameters.hpp"
#include "pushforward/tile/tile.hpp"

namespace pushforward {

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
