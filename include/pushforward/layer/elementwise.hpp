// Some features of the state, moved by a transform.
#pragma once

#include <vector>

#include "pushforward/layer/features.hpp"
#include "pushforward/transform/transform.hpp"

namespace pushforward {

template <class Scalar>
class Elementwise {
 public:
  // columns: of the state; domains: by column of the state.
  Elementwise(const Transform<Scalar>& transform, std::vector<Index> columns, const std::vector<Domain>& domains)
      : transform_(&transform), columns_(std::move(columns)) {
    for (const Index column : columns_) {
      domains_.push_back(domains[static_cast<std::size_t>(column)]);
      theta_.push_back(cache_.take(transform.parameter_count(domains_.back())));
    }
    theta_columns_ = cache_.count();
    for (const Domain domain : domains_) saved_.push_back(cache_.take(transform.saved_columns(domain)));
  }

  Index size() const { return static_cast<Index>(columns_.size()); }
  Features all() const { return {0, size()}; }
  // The number of parameters of all features, one feature's side by side, and of the first `count` features.
  Index theta_columns() const { return theta_columns_; }
  Index theta_columns(Index count) const { return count > 0 ? theta_[static_cast<std::size_t>(count - 1)].end() : 0; }
  // The cache holds theta in its first columns, then what the transform saves.
  Index cache_columns() const { return cache_.count(); }

  void map(Direction direction, Features features, const Tile<Scalar>& tile, Columns<Scalar> cache) const {
    for (Index j = features.first; j < features.last; ++j) {
      const auto i = static_cast<std::size_t>(j);
      const FeatureCache<Scalar> here{cache[theta_[i]], tile.keeps_cache ? cache[saved_[i]] : Columns<Scalar>()};
      transform_->map(direction, domains_[i], tile.padded, here, tile.state[columns_[i]], tile.log_det);
    }
  }

  // dtheta: (kTileRows, theta_columns()); the columns of the features are written.
  void vjp(Direction direction, Features features, const Tile<Scalar>& tile, Columns<const Scalar> cache,
           const TileGrad<Scalar>& grad, Columns<Scalar> dtheta) const {
    for (Index j = features.first; j < features.last; ++j) {
      const auto i = static_cast<std::size_t>(j);
      transform_->vjp(direction, domains_[i], tile.padded, {cache[theta_[i]], cache[saved_[i]]}, grad.log_det,
                      grad.state[columns_[i]], dtheta[theta_[i]]);
    }
  }

 private:
  const Transform<Scalar>* transform_;
  std::vector<Index> columns_;
  std::vector<Domain> domains_;
  ColumnLayout cache_;
  std::vector<Region> theta_, saved_;  // of each feature
  Index theta_columns_;
};

}  // namespace pushforward
