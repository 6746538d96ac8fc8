// Some features of the state, moved by a transform.
#pragma once

#include <algorithm>
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
      const FeatureCache<Scalar> here = feature_cache(j, tile, cache);
      transform_->prepare(domain(j), tile.padded, here);
      map_feature(direction, j, tile, here);
    }
  }

  // The same by parameters that all rows share, theta_columns() numbers.
  void map_alike(Direction direction, const Scalar* theta, const Tile<Scalar>& tile, Columns<Scalar> cache) const {
    constexpr Index kWidth = Vec<Scalar>::kWidth;
    const Index used = tile.keeps_cache ? cache_columns() : theta_columns();
    for (Index i = 0; i < used; ++i) std::fill_n(cache[i], kWidth, i < theta_columns() ? theta[i] : Scalar(0));
    for (Index j = 0; j < size(); ++j) transform_->prepare(domain(j), kWidth, feature_cache(j, tile, cache));
    for_each_lanes(tile.padded, used, [&](Index i, Index row) { lanes(cache[i] + row).setConstant(cache[i][0]); });
    for (Index j = 0; j < size(); ++j) map_feature(direction, j, tile, feature_cache(j, tile, cache));
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
  Domain domain(Index feature) const { return domains_[static_cast<std::size_t>(feature)]; }

  FeatureCache<Scalar> feature_cache(Index feature, const Tile<Scalar>& tile, Columns<Scalar> cache) const {
    const auto i = static_cast<std::size_t>(feature);
    return {cache[theta_[i]], tile.keeps_cache ? cache[saved_[i]] : Columns<Scalar>()};
  }

  void map_feature(Direction direction, Index feature, const Tile<Scalar>& tile, FeatureCache<Scalar> cache) const {
    Scalar* state = tile.state[columns_[static_cast<std::size_t>(feature)]];
    transform_->map(direction, domain(feature), tile.padded, cache, state, tile.log_det);
  }

  const Transform<Scalar>* transform_;
  std::vector<Index> columns_;
  std::vector<Domain> domains_;
  ColumnLayout cache_;
  std::vector<Region> theta_, saved_;  // of each feature
  Index theta_columns_;
};

}  // namespace pushforward
