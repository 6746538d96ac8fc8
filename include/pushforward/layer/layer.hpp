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
  // The number of tile columns that a map needs, and keeps for its adjoint, and of those that the adjoint also needs.
  virtual Index cache_columns() const = 0;
  virtual Index scratch_columns() const = 0;
  // Of columns that a map needs but does not keep: the tile's scratch.
  virtual Index map_scratch_columns() const { return 0; }

  // The most rows of a tile that the layer works well on: a multiple of kLanes.
  virtual Index tile_rows() const { return kTileRows; }

  // Moves the state in place and adds log|det| of the map just taken to log_det.
  virtual void map(Direction direction, const Scalar* parameters, const Tile<Scalar>& tile,
                   Columns<Scalar> cache) const = 0;
  // The adjoint of that map. The cache is as the map left it, and may be overwritten.
  virtual void vjp(Direction direction, const Scalar* parameters, const Tile<Scalar>& tile, Columns<Scalar> cache,
                   const TileGrad<Scalar>& grad, Columns<Scalar> scratch) const = 0;

  // Whether the first parameters are computed from data, and how: from mean and standard deviation of each column of
  // the state on the layer's x side.
  virtual bool starts_from_data() const { return false; }
  virtual void initialize(const double* /*mean*/, const double* /*deviation*/, Scalar* /*parameters*/) const {}
};

}  // namespace pushforward
