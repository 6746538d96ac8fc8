// x_i = z_i exp(s_i) + b_i, with one scale and one shift for each feature, or for each channel of an image. Their first
// values are taken from data, so that the z side has mean 0 and variance 1 (Kingma and Dhariwal 2018, section 3.1).
#pragma once

#include <cmath>

#include "pushforward/description/json.hpp"
#include "pushforward/layer/layer.hpp"
#include "pushforward/layer/place.hpp"

namespace pushforward {

template <class Scalar>
class ActNorm final : public Layer<Scalar> {
 public:
  // groups: the columns of the state that share a scale and a shift.
  explicit ActNorm(std::vector<std::vector<Index>> groups) : groups_(std::move(groups)) {
    for (const auto& group : groups_) z_.push_back(cache_.take(static_cast<Index>(group.size())));
  }

  std::vector<ParameterBlock> parameters() const override {
    return {{"log_scale", {count()}, 0.0}, {"shift", {count()}, 0.0}};
  }

  Index cache_columns() const override { return cache_.count(); }  // z
  Index scratch_columns() const override { return 0; }

  void map(Direction direction, const Scalar* parameters, const Tile<Scalar>& tile,
           Columns<Scalar> cache) const override {
    double log_det = 0;
    for (Index i = 0; i < count(); ++i) {
      const Scalar log_scale = parameters[i], shift = parameters[count() + i];
      const bool is_forward = direction == Direction::forward;
      const Scalar scale = std::exp(is_forward ? log_scale : -log_scale);
      for_each_column(i, [&](Index column, Index place) {
        Scalar *state = tile.state[column], *z = cache[place];
        if (is_forward) {
          for (Index row = 0; row < tile.padded; row += kLanes) {
            lanes(z + row) = lanes(state + row);
            lanes(state + row) = lanes(z + row) * scale + shift;
          }
        } else {
          for (Index row = 0; row < tile.padded; row += kLanes) {
            lanes(z + row) = (lanes(state + row) - shift) * scale;
            lanes(state + row) = lanes(z + row);
          }
        }
      });
      const double sum = static_cast<double>(log_scale) * static_cast<double>(z_[at(i)].count);
      log_det += is_forward ? sum : -sum;
    }
    for (Index row = 0; row < tile.padded; row += kLanes) lanes(tile.log_det + row) += log_det;
  }

  // forward:  x = z exp(s) + b, log_det = sum s:       ds = sum_row dx z exp(s) + dlog_det, db = sum_row dx
  // inverse:  z = (x - b) exp(-s), log_det = -sum s:   ds = -sum_row (dz z + dlog_det), db = -sum_row dz exp(-s)
  // and the sums go over the columns of a group too.
  void vjp(Direction direction, const Scalar* parameters, const Tile<Scalar>& tile, Columns<Scalar> cache,
           const TileGrad<Scalar>& grad, Columns<Scalar>) const override {
    const Scalar sign = direction == Direction::forward ? Scalar(1) : Scalar(-1);
    for (Index i = 0; i < count(); ++i) {
      const Scalar scale = std::exp(sign * parameters[i]);
      Lanes<Scalar> dlog_scale = Lanes<Scalar>::Zero(), dshift = Lanes<Scalar>::Zero();
      for_each_column(i, [&](Index column, Index place) {
        Scalar* dstate = grad.state[column];
        const Scalar* z = cache[place];
        for (Index row = 0; row < tile.padded; row += kLanes) {
          const Lanes<Scalar> out = lanes(dstate + row), in = out * scale;
          dlog_scale += (direction == Direction::forward ? in : out) * lanes(z + row) + lanes(grad.log_det + row);
          dshift += direction == Direction::forward ? out : in;
          lanes(dstate + row) = in;
        }
      });
      if (grad.parameters) {
        grad.parameters[i] += sign * dlog_scale.sum();
        grad.parameters[count() + i] += sign * dshift.sum();
      }
    }
  }

  bool starts_from_data() const override { return true; }

  void initialize(const double* mean, const double* deviation, Scalar* parameters) const override {
    for (Index i = 0; i < count(); ++i) {
      const auto size = static_cast<double>(z_[at(i)].count);
      double center = 0, square = 0;
      for_each_column(i, [&](Index column, Index) { center += mean[column] / size; });
      // The variance of all is the mean of the variances, and the variance of the means.
      for_each_column(i, [&](Index column, Index) {
        square += (std::pow(deviation[column], 2) + std::pow(mean[column] - center, 2)) / size;
      });
      const double spread = size > 1 ? std::sqrt(square) : deviation[groups_[at(i)].front()];
      parameters[i] = static_cast<Scalar>(spread > 0 ? std::log(spread) : 0.0);
      parameters[count() + i] = static_cast<Scalar>(center);
    }
  }

 private:
  static std::size_t at(Index i) { return static_cast<std::size_t>(i); }
  Index count() const { return static_cast<Index>(groups_.size()); }

  // Calls f(column of the state, column of the cache) for the columns of a group.
  template <class F>
  void for_each_column(Index group, F&& f) const {
    Index place = z_[at(group)].first;
    for (const Index column : groups_[at(group)]) f(column, place++);
  }

  std::vector<std::vector<Index>> groups_;
  ColumnLayout cache_;
  std::vector<Region> z_;  // of each group
};

template <class Scalar>
std::unique_ptr<Layer<Scalar>> make_actnorm(const Json& description, const Place& place) {
  json::expect_names(description, {"kind"});
  return std::make_unique<ActNorm<Scalar>>(place.groups_on_line());
}

}  // namespace pushforward
