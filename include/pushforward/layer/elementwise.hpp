// Some columns of the state on their way through a transform, whose parameters stand in tile columns of their own.
#pragma once

#include <vector>

#include "pushforward/tile/tile.hpp"
#include "pushforward/transform/transform.hpp"

namespace pushforward {

// A run of features, first ... last - 1.
struct Features {
  Index first, last;
};

template <class Scalar>
class Elementwise {
 public:
  // columns: of the state; domains: by column of the state.
  Elementwise(const Transform<Scalar>& transform, std::vector<Index> columns, const std::vector<Domain>& domains)
      : transform_(&transform), columns_(std::move(columns)), ends_{0}, saved_ends_{0} {
    for (const Index column : columns_) {
      domains_.push_back(domains[static_cast<std::size_t>(column)]);
      ends_.push_back(ends_.back() + transform.parameter_count(domains_.back()));
      saved_ends_.push_back(saved_ends_.back() + transform.saved_columns(domains_.back()));
    }
  }

  Index size() const { return static_cast<Index>(columns_.size()); }
  Features all() const { return {0, size()}; }
  // Parameters of all features, one feature's together; of the first `feature` ones.
  Index theta_columns() const { return ends_.back(); }
  Index theta_end(Index feature) const { return ends_[static_cast<std::size_t>(feature)]; }
  // theta, then what the transform saves besides.
  Index cache_columns() const { return theta_columns() + saved_ends_.back(); }

  // theta stands in the first columns of the cache.
  void map(Direction direction, Features features, const Tile<Scalar>& tile, Scalar* cache) const {
    for (Index j = features.first; j < features.last; ++j) {
      const auto i = static_cast<std::size_t>(j);
      Cache<Scalar> here = cache_of(i, cache);
      if (!tile.keeps_cache) here.saved = nullptr;
      transform_->map(direction, domains_[i], tile.padded, here, tile.state + columns_[i] * kTileRows, tile.log_det);
    }
  }

  // dtheta: (kTileRows, theta_columns()), those of the features are written.
  void vjp(Direction direction, Features features, const Tile<Scalar>& tile, const Scalar* cache,
           const TileGrad<Scalar>& grad, Scalar* dtheta) const {
    for (Index j = features.first; j < features.last; ++j) {
      const auto i = static_cast<std::size_t>(j);
      transform_->vjp(direction, domains_[i], tile.padded, cache_of(i, cache), grad.log_det,
                      grad.state + columns_[i] * kTileRows, dtheta + ends_[i] * kTileRows);
    }
  }

 private:
  template <class T>
  Cache<T> cache_of(std::size_t feature, T* cache) const {
    return {cache + ends_[feature] * kTileRows, cache + (theta_columns() + saved_ends_[feature]) * kTileRows};
  }

  const Transform<Scalar>* transform_;
  std::vector<Index> columns_;
  std::vector<Domain> domains_;
  std::vector<Index> ends_, saved_ends_;  // of each feature's parameters and what is saved of it, after a 0
};

// How a network reads features: as they are, but an angle by its cosine and sine, which have no seam.
template <class Scalar>
class FeatureInputs {
 public:
  FeatureInputs(std::vector<Index> columns, const std::vector<Domain>& domains)
      : columns_(std::move(columns)), ends_{0} {
    for (const Index column : columns_) {
      circular_.push_back(domains[static_cast<std::size_t>(column)] == Domain::circle);
      ends_.push_back(ends_.back() + (circular_.back() ? 2 : 1));
      angles_ += circular_.back() ? 1 : 0;
    }
  }

  Features all() const { return {0, static_cast<Index>(columns_.size())}; }
  Index input_columns() const { return ends_.back(); }
  Index input_end(Index feature) const { return ends_[static_cast<std::size_t>(feature)]; }
  // Angles, which the adjoint needs again.
  Index cache_columns() const { return angles_; }

  void read(Features features, Index padded, const Scalar* state, Scalar* inputs, Scalar* cache) const {
    for_each(
        features,
        [&](const Scalar* value, Index input, Index angle) {
          Scalar* to = inputs + input * kTileRows;
          if (angle < 0) {
            std::copy_n(value, padded, to);
            return;
          }
          std::copy_n(value, padded, cache + angle * kTileRows);
          for (Index row = 0; row < padded; row += kLanes) {
            lanes(to + row) = lanes(value + row).cos();
            lanes(to + kTileRows + row) = lanes(value + row).sin();
          }
        },
        state);
  }

  // Adds the derivatives by the features to dstate.
  void vjp(Features features, Index padded, const Scalar* dinputs, const Scalar* cache, Scalar* dstate) const {
    for_each(
        features,
        [&](Scalar* dvalue, Index input, Index angle) {
          const Scalar* from = dinputs + input * kTileRows;
          for (Index row = 0; row < padded; row += kLanes) {
            if (angle < 0) {
              lanes(dvalue + row) += lanes(from + row);
            } else {
              const Lanes<Scalar> at = lanes(cache + angle * kTileRows + row);
              lanes(dvalue + row) += lanes(from + kTileRows + row) * at.cos() - lanes(from + row) * at.sin();
            }
          }
        },
        dstate);
  }

 private:
  // f(column of the state, its first input, its place among the angles or -1)
  template <class F, class T>
  void for_each(Features features, F&& f, T* state) const {
    Index angle = 0;
    for (Index j = 0; j < features.last; ++j) {
      const auto i = static_cast<std::size_t>(j);
      if (j >= features.first) f(state + columns_[i] * kTileRows, ends_[i], circular_[i] ? angle : -1);
      angle += circular_[i] ? 1 : 0;
    }
  }

  std::vector<Index> columns_;
  std::vector<bool> circular_;
  std::vector<Index> ends_;  // of each feature's inputs, after a 0
  Index angles_ = 0;
};

}  // namespace pushforward
