// A learned rotation or reflection: a product of Householder reflections (Tomczak and Welling 2016), z = H_1 ... H_n x
// with H = I - 2 v v^T / (v^T v). The map is orthogonal: its inverse is its transpose, and its log-determinant is 0.
#pragma once

#include "pushforward/description/json.hpp"
#include "pushforward/layer/layer.hpp"
#include "pushforward/layer/place.hpp"

namespace pushforward {

template <class Scalar>
class Householder final : public Layer<Scalar> {
 public:
  // columns: of the state, in the order of a vector's entries.
  Householder(std::vector<Index> columns, Index count) : columns_(std::move(columns)), count_(count) {}

  std::vector<ParameterBlock> parameters() const override { return {{"vectors", {count_, dim()}, 1.0}}; }

  Index cache_columns() const override { return cache_.count(); }
  Index scratch_columns() const override { return scratch_.count(); }

  void map(Direction direction, const Scalar* parameters, const Tile<Scalar>& tile,
           Columns<Scalar> cache) const override {
    const auto products = cache[products_], result = cache[result_];
    for (Index i = 0; i < count_; ++i) {
      const Scalar* v = vector(parameters, direction, i);
      const Scalar factor = factor_of(v);
      for (Index row = 0; row < tile.padded; row += kLanes) {
        const Lanes<Scalar> along = dot(v, tile.state, row);
        lanes(products[i] + row) = along;
        add(v, -factor * along, tile.state, row);
      }
    }
    for (Index j = 0; j < dim(); ++j) std::copy_n(tile.state[column(j)], tile.padded, result[j]);
  }

  // y = x - f (v . x) v with f = 2 / (v . v):
  // dx = H dy,  dv = -f [(v . x) dy + (v . dy) x] + f^2 (v . x) (v . dy) v
  void vjp(Direction direction, const Scalar* parameters, const Tile<Scalar>& tile, Columns<Scalar> cache,
           const TileGrad<Scalar>& grad, Columns<Scalar> scratch) const override {
    const auto products = cache[products_];
    // The state before each reflection, from the last on: a reflection undoes itself.
    const auto x = cache[result_];
    Scalar* dv = grad.parameters ? scratch[dv_].data() : nullptr;
    for (Index i = count_; i-- > 0;) {
      const Scalar* v = vector(parameters, direction, i);
      const Scalar factor = factor_of(v);
      if (dv) std::fill_n(dv, dim(), Scalar(0));
      Lanes<Scalar> both = Lanes<Scalar>::Zero();
      for (Index row = 0; row < tile.padded; row += kLanes) {
        const Lanes<Scalar> along = lanes(products[i] + row), dalong = dot(v, grad.state, row);
        for (Index j = 0; j < dim(); ++j) lanes(x[j] + row) += factor * v[j] * along;
        if (dv)
          for (Index j = 0; j < dim(); ++j)
            dv[j] -= factor * (along * lanes(grad.state[column(j)] + row) + dalong * lanes(x[j] + row)).sum();
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
  Index column(Index j) const { return columns_[static_cast<std::size_t>(j)]; }  // of the state

  // The vector of the i-th reflection in a direction; the inverse is z = H_1 (... (H_n x)).
  const Scalar* vector(const Scalar* parameters, Direction direction, Index i) const {
    return parameters + (direction == Direction::inverse ? count_ - 1 - i : i) * dim();
  }

  // 2 / (v . v); a vector of zeros reflects nothing.
  Scalar factor_of(const Scalar* v) const {
    Scalar sum = 0;
    for (Index j = 0; j < dim(); ++j) sum += v[j] * v[j];
    return sum > 0 ? 2 / sum : Scalar(0);
  }

  Lanes<Scalar> dot(const Scalar* v, Columns<const Scalar> state, Index row) const {
    Lanes<Scalar> sum = Lanes<Scalar>::Zero();
    for (Index j = 0; j < dim(); ++j) sum += v[j] * lanes(state[column(j)] + row);
    return sum;
  }
  void add(const Scalar* v, const Lanes<Scalar>& factor, Columns<Scalar> state, Index row) const {
    for (Index j = 0; j < dim(); ++j) lanes(state[column(j)] + row) += v[j] * factor;
  }

  std::vector<Index> columns_;
  Index count_;

  ColumnLayout cache_;
  Region products_ = cache_.take(count_);  // v . y of each reflection, y being what it is applied to
  Region result_ = cache_.take(dim());     // the state after the last

  ColumnLayout scratch_;
  Region dv_ = scratch_.take(dim() / kTileRows + 1);  // (dim,), of one reflection
};

template <class Scalar>
std::unique_ptr<Layer<Scalar>> make_householder(const Json& description, const Place& place) {
  json::expect_names(description, {"kind", "count"});
  return std::make_unique<Householder<Scalar>>(place.lines(),
                                               json::integer_member(description, "count", limits::kReflections));
}

}  // namespace pushforward
