// x = z + W c + b: the features are shifted by a linear function of the context c.
#pragma once

#include "pushforward/description/json.hpp"
#include "pushforward/layer/layer.hpp"
#include "pushforward/layer/place.hpp"

namespace pushforward {

template <class Scalar>
class ContextShift final : public Layer<Scalar> {
 public:
  // columns: of the state that are shifted; context: the number of columns of the context.
  ContextShift(std::vector<Index> columns, Index context) : columns_(std::move(columns)), context_(context) {}

  std::vector<ParameterBlock> parameters() const override {
    return {{"weight", {dim(), context_}, 0.0}, {"bias", {dim()}, 0.0}};
  }

  Index cache_columns() const override { return 0; }
  Index scratch_columns() const override { return 0; }

  void map(Direction direction, const Scalar* parameters, const Tile<Scalar>& tile, Columns<Scalar>) const override {
    const Scalar sign = sign_of(direction);
    const Scalar* bias = parameters + dim() * context_;
    for (Index i = 0; i < dim(); ++i) {
      const Scalar* weight = parameters + i * context_;
      for (Index row = 0; row < tile.padded; row += kLanes) {
        Lanes<Scalar> shift = Lanes<Scalar>::Constant(bias[i]);
        for (Index k = 0; k < context_; ++k) shift += weight[k] * lanes(tile.context[k] + row);
        lanes(tile.state[column(i)] + row) += sign * shift;
      }
    }
  }

  // forward:  dz = dx, dW = dx c^T, db = dx, dc = W^T dx;  the inverse has the other sign in all but the first.
  void vjp(Direction direction, const Scalar* parameters, const Tile<Scalar>& tile, Columns<Scalar>,
           const TileGrad<Scalar>& grad, Columns<Scalar>) const override {
    const Scalar sign = sign_of(direction);
    for (Index i = 0; i < dim(); ++i) {
      const Scalar* dstate = grad.state[column(i)];
      for (Index k = 0; k < context_; ++k) {
        if (grad.context)
          for (Index row = 0; row < tile.padded; row += kLanes)
            lanes(grad.context[k] + row) += sign * parameters[i * context_ + k] * lanes(dstate + row);
        if (grad.parameters) grad.parameters[i * context_ + k] += sign * sum_of_products(tile, dstate, tile.context[k]);
      }
      if (grad.parameters) {
        Lanes<Scalar> sum = Lanes<Scalar>::Zero();
        for (Index row = 0; row < tile.padded; row += kLanes) sum += lanes(dstate + row);
        grad.parameters[dim() * context_ + i] += sign * sum.sum();
      }
    }
  }

 private:
  static Scalar sign_of(Direction direction) { return direction == Direction::forward ? Scalar(1) : Scalar(-1); }

  static Scalar sum_of_products(const Tile<Scalar>& tile, const Scalar* a, const Scalar* b) {
    Lanes<Scalar> sum = Lanes<Scalar>::Zero();
    for (Index row = 0; row < tile.padded; row += kLanes) sum += lanes(a + row) * lanes(b + row);
    return sum.sum();
  }

  Index dim() const { return static_cast<Index>(columns_.size()); }
  Index column(Index i) const { return columns_[static_cast<std::size_t>(i)]; }  // of the state

  std::vector<Index> columns_;
  Index context_;
};

template <class Scalar>
std::unique_ptr<Layer<Scalar>> make_context_shift(const Json& description, const Place& place) {
  json::expect_names(description, {"kind"});
  if (place.context < 1) throw std::invalid_argument("ContextShift needs a context");
  return std::make_unique<ContextShift<Scalar>>(place.columns_on_line(), place.context);
}

}  // namespace pushforward
