// x_i = z_i exp(s_i) + b_i, with one scale and one shift for each feature. Their first values are taken from data, so
// that the z side has mean 0 and variance 1 (Kingma and Dhariwal 2018, section 3.1).
#pragma once

#include <cmath>

#include "pushforward/description/json.hpp"
#include "pushforward/layer/layer.hpp"
#include "pushforward/layer/place.hpp"

namespace pushforward {

template <class Scalar>
class ActNorm final : public Layer<Scalar> {
 public:
  explicit ActNorm(std::vector<Index> columns) : columns_(std::move(columns)) {}

  std::vector<ParameterBlock> parameters() const override {
    return {{"log_scale", {dim()}, 0.0}, {"shift", {dim()}, 0.0}};
  }

  Index cache_columns() const override { return dim(); }  // z
  Index scratch_columns() const override { return 0; }

  void map(Direction direction, const Scalar* parameters, const Tile<Scalar>& tile,
           Columns<Scalar> cache) const override {
    double log_det = 0;
    for (Index i = 0; i < dim(); ++i) {
      const Scalar log_scale = parameters[i], shift = parameters[dim() + i];
      Scalar* state = tile.state[columns_[static_cast<std::size_t>(i)]];
      Scalar* z = cache[i];
      if (direction == Direction::forward) {
        const Scalar scale = std::exp(log_scale);
        for (Index row = 0; row < tile.padded; row += kLanes) {
          lanes(z + row) = lanes(state + row);
          lanes(state + row) = lanes(z + row) * scale + shift;
        }
        log_det += static_cast<double>(log_scale);
      } else {
        const Scalar scale = std::exp(-log_scale);
        for (Index row = 0; row < tile.padded; row += kLanes) {
          lanes(z + row) = (lanes(state + row) - shift) * scale;
          lanes(state + row) = lanes(z + row);
        }
        log_det -= static_cast<double>(log_scale);
      }
    }
    for (Index row = 0; row < tile.padded; row += kLanes) lanes(tile.log_det + row) += log_det;
  }

  // forward:  x = z exp(s) + b, log_det = sum s:       ds = sum_row dx z exp(s) + dlog_det, db = sum_row dx
  // inverse:  z = (x - b) exp(-s), log_det = -sum s:   ds = -sum_row (dz z + dlog_det), db = -sum_row dz exp(-s)
  void vjp(Direction direction, const Scalar* parameters, const Tile<Scalar>& tile, Columns<Scalar> cache,
           const TileGrad<Scalar>& grad, Columns<Scalar>) const override {
    const Scalar sign = direction == Direction::forward ? Scalar(1) : Scalar(-1);
    for (Index i = 0; i < dim(); ++i) {
      const Scalar scale = std::exp(sign * parameters[i]);
      Scalar* dstate = grad.state[columns_[static_cast<std::size_t>(i)]];
      const Scalar* z = cache[i];
      Lanes<Scalar> dlog_scale = Lanes<Scalar>::Zero(), dshift = Lanes<Scalar>::Zero();
      for (Index row = 0; row < tile.padded; row += kLanes) {
        const Lanes<Scalar> out = lanes(dstate + row), in = out * scale;
        dlog_scale += (direction == Direction::forward ? in : out) * lanes(z + row) + lanes(grad.log_det + row);
        dshift += direction == Direction::forward ? out : in;
        lanes(dstate + row) = in;
      }
      if (grad.parameters) {
        grad.parameters[i] += sign * dlog_scale.sum();
        grad.parameters[dim() + i] += sign * dshift.sum();
      }
    }
  }

  bool starts_from_data() const override { return true; }

  void initialize(const double* mean, const double* deviation, Scalar* parameters) const override {
    for (Index i = 0; i < dim(); ++i) {
      const Index column = columns_[static_cast<std::size_t>(i)];
      parameters[i] = static_cast<Scalar>(deviation[column] > 0 ? std::log(deviation[column]) : 0.0);
      parameters[dim() + i] = static_cast<Scalar>(mean[column]);
    }
  }

 private:
  Index dim() const { return static_cast<Index>(columns_.size()); }

  std::vector<Index> columns_;
};

template <class Scalar>
std::unique_ptr<Layer<Scalar>> make_actnorm(const Json& description, const Place& place) {
  json::expect_names(description, {"kind"});
  return std::make_unique<ActNorm<Scalar>>(place.lines());
}

}  // namespace pushforward
