// A learned rotation or reflection: a product of Householder reflections (Tomczak and Welling 2016), z = H_1 ... H_n x
// with H = I - 2 v v^T / (v^T v). Orthogonal, so that the inverse is the transpose and the log-determinant 0.
#pragma once

#include "pushforward/layer/layer.hpp"

namespace pushforward {

template <class Scalar>
class Householder final : public Layer<Scalar> {
 public:
  Householder(std::vector<Index> columns, Index count) : columns_(std::move(columns)), count_(count) {}

  std::vector<ParameterBlock> parameters() const override { return {{"vectors", {count_, dim()}, 1.0}}; }

  // v . y of each reflection, and the state after the last
  Index cache_columns() const override { return count_ + dim(); }
  Index scratch_columns() const override { return dim() + dim() / kTileRows + 1; }

  void map(Direction direction, const Scalar* parameters, const Tile<Scalar>& tile, Scalar* cache) const override {
    for (Index i = 0; i < count_; ++i) {
      const Scalar* v = vector(parameters, direction, i);
      const Scalar factor = factor_of(v);
      for (Index row = 0; row < tile.padded; row += kLanes) {
        const Lanes<Scalar> along = dot(v, tile.state, row);
        lanes(cache + i * kTileRows + row) = along;
        add(v, -factor * along, tile.state, row);
      }
    }
    for (Index i = 0; i < dim(); ++i) std::copy_n(state(tile.state, i), tile.padded, cache + (count_ + i) * kTileRows);
  }

  // y = x - f (v . x) v with f = 2 / (v . v):
  // dx = H dy,  dv = -f [(v . x) dy + (v . dy) x] + f^2 (v . x) (v . dy) v
  void vjp(Direction direction, const Scalar* parameters, const Tile<Scalar>& tile, Scalar* cache,
           const TileGrad<Scalar>& grad, Scalar* scratch) const override {
    // The state before each reflection, from the last on: a reflection undoes itself.
    Scalar* x = scratch;
    std::copy_n(cache + count_ * kTileRows, dim() * kTileRows, x);
    const auto column = [](Scalar* columns, Index i) { return columns + i * kTileRows; };
    for (Index i = count_; i-- > 0;) {
      const Scalar* v = vector(parameters, direction, i);
      const Scalar factor = factor_of(v);
      Scalar* dv = grad.parameters ? scratch + dim() * kTileRows : nullptr;
      if (dv) std::fill_n(dv, dim(), Scalar(0));
      Lanes<Scalar> both = Lanes<Scalar>::Zero();
      for (Index row = 0; row < tile.padded; row += kLanes) {
        const Lanes<Scalar> along = lanes(cache + i * kTileRows + row), dalong = dot(v, grad.state, row);
        for (Index j = 0; j < dim(); ++j) lanes(column(x, j) + row) += factor * v[j] * along;
        if (dv)
          for (Index j = 0; j < dim(); ++j)
            dv[j] -= factor * (along * lanes(state(grad.state, j) + row) + dalong * lanes(column(x, j) + row)).sum();
        both += along * dalong;
        add(v, -factor * dalong, grad.state, row);
      }
      if (!dv) continue;
      const Scalar total = factor * factor * both.sum();
      for (Index j = 0; j < dim(); ++j) grad.parameters[v - parameters + j] += dv[j] + total * v[j];
    }
  }

 private:
  Index dim() const { return static_cast<Index>(columns_.size()); }
  Scalar* state(Scalar* columns, Index i) const { return columns + columns_[static_cast<std::size_t>(i)] * kTileRows; }

  // The i-th reflection on the way: z = H_1 (... (H_n x)).
  const Scalar* vector(const Scalar* parameters, Direction direction, Index i) const {
    return parameters + (direction == Direction::inverse ? count_ - 1 - i : i) * dim();
  }

  // 2 / (v . v); a vector of zeros reflects nothing.
  Scalar factor_of(const Scalar* v) const {
    Scalar sum = 0;
    for (Index j = 0; j < dim(); ++j) sum += v[j] * v[j];
    return sum > 0 ? 2 / sum : Scalar(0);
  }

  Lanes<Scalar> dot(const Scalar* v, Scalar* columns, Index row) const {
    Lanes<Scalar> sum = Lanes<Scalar>::Zero();
    for (Index j = 0; j < dim(); ++j) sum += v[j] * lanes(state(columns, j) + row);
    return sum;
  }
  void add(const Scalar* v, const Lanes<Scalar>& factor, Scalar* columns, Index row) const {
    for (Index j = 0; j < dim(); ++j) lanes(state(columns, j) + row) += v[j] * factor;
  }

  std::vector<Index> columns_;
  Index count_;
};

}  // namespace pushforward
